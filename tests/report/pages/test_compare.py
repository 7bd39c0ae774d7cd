"""Runs side by side: a column each, differences named, text stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.errors import ArtifactError
from palate.evaluation.answers.table import SideBySide
from palate.records import Message
from palate.report import compare_runs, read_contents, write_compare_report
from palate.report.pages.compare import differences, held_out_note, unique_names

MakeRun = Callable[..., Path]
PAYLOADS = (Path(__file__).parent / "payloads.txt").read_text(encoding="utf-8").splitlines()


def set_config(run: Path, **changes: Any) -> Path:
    facts = json.loads((run / "run.json").read_text())
    facts["config"] |= changes
    (run / "run.json").write_text(json.dumps(facts))
    return run


def heads(content: str) -> list[str]:
    table = re.search(r'<table class="texts[^"]*">.*?</thead>', content, re.DOTALL)
    assert table is not None
    return re.findall(r">([^<>\n]+)</th>", table[0])


def test_two_runs_are_two_columns(make_run: MakeRun, tmp_path: Path) -> None:
    full = set_config(make_run(tmp_path / "full"), learning_rate=5e-7)
    lora = set_config(make_run(tmp_path / "lora", seed=1), finetuning_type="lora", lora_rank=16, output_dir="elsewhere")
    content = compare_runs([full, lora], tmp_path / "out" / "compare.html").read_text()
    assert heads(content) == ["index", "Prompt", "full", "lora", "Reference Model Output"]
    assert content.count("plain.") == 6
    for expected in (
        "finetuning_type",
        "lora_rank",
        "5e-07",
        "85.8 % (95 % 78.5 to 91.0 %, before: 42.5 %, 120 held-out pairs)",
    ):
        assert expected in content
    assert "elsewhere" not in content
    assert "pref_beta</th>" not in content  # the same in both, so no difference


def test_one_run_has_the_known_columns(make_run: MakeRun, tmp_path: Path) -> None:
    content = compare_runs([make_run(tmp_path / "run")], tmp_path / "compare.html").read_text()
    assert heads(content) == ["index", "Prompt", "DPO Model Output", "Reference Model Output"]


def test_differences_are_exact(make_run: MakeRun, tmp_path: Path) -> None:
    one = set_config(make_run(tmp_path / "a"), hub_token="CANARY-1")
    two = set_config(make_run(tmp_path / "b"), hub_token="CANARY-2", seed=7)
    found = differences([read_contents(one), read_contents(two)])
    assert found == [("hub_token", ["(hidden)", "(hidden)"]), ("seed", [None, 7])]


def test_names_tell_runs_apart(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [read_contents(make_run(tmp_path / lr / "run")) for lr in ("lr1", "lr2")]
    assert unique_names(runs) == ["lr1/run", "lr2/run"]
    assert unique_names([runs[0], runs[0]]) == ["run (1)", "run (2)"]


def test_a_run_without_an_answer_shows_none(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    (two / "samples.jsonl").write_text("")
    content = compare_runs([one, two], tmp_path / "compare.html").read_text()
    assert content.count('<span class="none">none</span>') == 3


def test_nothing_to_compare_is_one_line(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "samples.jsonl").unlink()
    (run / "accuracy.json").unlink()
    with pytest.raises(ArtifactError, match=r"neither samples\.jsonl nor accuracy\.json"):
        compare_runs([run], tmp_path / "compare.html")


def test_payloads_stay_text(tmp_path: Path) -> None:
    rows = [SideBySide((Message("user", one), Message("system", one)), {one: one, "b": None}, one) for one in PAYLOADS]
    content = write_compare_report(rows, [], tmp_path / "compare.html").read_text()
    tags = set(re.findall(r"<([a-zA-Z]+)", content))
    assert tags.isdisjoint(
        {"script", "SCRIPT", "img", "iframe", "svg", "xss", "input", "form", "base", "link", "object"}
    )
    assert not re.search(r"<[a-z]+[^>]*\son\w+=", content)


def test_answers_alone_need_no_run(tmp_path: Path) -> None:
    row = SideBySide((Message("user", "Why?"),), {"v2": "Because."}, None)
    content = write_compare_report([row], [], tmp_path / "table.html").read_text()
    assert "Because." in content
    assert heads(content) == ["index", "Prompt", "DPO Model Output", "Reference Model Output"]


def test_the_page_says_whether_the_runs_held_out_the_same_rows(make_run: MakeRun, tmp_path: Path) -> None:
    held_out = {"train_groups": 608, "eval_groups": 24}
    runs = [
        make_run(tmp_path / name, run={"data": {**held_out, **({"held_out_identity": one} if one else {})}})
        for name, one in (("a", "1f83"), ("b", "1f83"), ("c", "77aa"), ("d", None), ("e", None))
    ]
    contents = [read_contents(run) for run in runs]
    names = unique_names(contents)
    assert held_out_note(names[:2], contents[:2]) == "All runs held out the same rows: 120 held-out pairs."
    assert held_out_note(names[1:3], contents[1:3]) == (
        "The runs held out different rows (b: 120, c: 120), so their figures cannot be compared directly."
    )
    assert "is not recorded" in held_out_note(names[3:], contents[3:])
    assert held_out_note(names[:1], contents[:1]) == ""
    page = compare_runs(runs[1:3], tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "The runs held out different rows" in page
    assert "120 held-out pairs (1f83)" in page
