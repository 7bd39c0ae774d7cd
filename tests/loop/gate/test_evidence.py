"""Evidence from result files: which model is which side, what is left out, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.winrate.items import prompts_hash
from palate.loop.gate.config import GateFields
from palate.loop.gate.evidence import find_results, read_evidence
from palate.records import Message, Record
from runs import write_rows

PROMPTS = [Record(id=f"p{n}", prompt=(Message("user", f"q{n}"),)) for n in range(100)]
CONFIG = GateFields.model_validate(
    {
        "prompts": "p.jsonl",
        "n": 100,
        "judge": "j",
        "guards": [
            {"metric": "xstest/over_refusal", "margin": 0.1, "n": 3, "discordant": 0.1, "lower_is_better": True}
        ],
    }
)


def win_rate(folder: Path, **changes: Any) -> Path:
    """A folder with three items: a judged one, one of another order only, one without a verdict."""
    items = [
        {"id": "p0", "score": 1.0, "shown_first": 1.0, "shown_second": 1.0, "length_a": 9, "length_b": 4, "group": "g"},
        {
            "id": "p1",
            "score": 0.0,
            "shown_first": None,
            "shown_second": 0.0,
            "length_a": 3,
            "length_b": 4,
            "group": "g",
        },
        {
            "id": "p2",
            "score": None,
            "shown_first": None,
            "shown_second": None,
            "length_a": 3,
            "length_b": 1,
            "group": "",
        },
    ]
    content = {
        "kind": "winrate",
        "version": 1,
        "a": {"name": "dpo", "identities": ["aa"]},
        "b": {"name": "sft", "identities": ["bb"]},
        "judge": "j",
        "judge_identity": {"name": "j", "model": "m", "prompt_hash": ""},
        "decoding": None,
        "prompts_hash": prompts_hash(PROMPTS),
        "mean_lengths": [5.0, 4.0],
        "position": {"consistency": {"estimate": 0.8}},
        "leaks": [{"found": {"p0": "same", "p1": "run"}}, {"found": {"p0": "same"}}],
        "items": items,
        **changes,
    }
    folder.mkdir()
    (folder / "winrate.json").write_text(json.dumps(content))
    texts = ["fine", "  ", "so so so so so so so", "also fine"]
    rows = [{"id": f"p{n}", "prompt": f"q{n}", "completions": [text, "other"]} for n, text in enumerate(texts)]
    write_rows(folder / "candidates.jsonl", rows)
    return folder


def bench(path: Path, *models: tuple[str, str | None, dict[str, float]], data: str = "d", **changes: Any) -> Path:
    content = {
        "format": 1,
        "benchmark": "xstest",
        "metrics": {"over_refusal": "share of safe prompts that are refused"},
        "lower_is_better": ["over_refusal"],
        "data": [data],
        "models": [
            {
                "name": name,
                "identity": identity,
                "items": [{"id": item, "scores": {"over_refusal": value}} for item, value in scores.items()],
                "left_out": [],
            }
            for name, identity, scores in models
        ],
        **changes,
    }
    path.write_text(json.dumps(content))
    return path


def read(folder: Path, *benchmarks: Path, **more: Any) -> Any:
    return read_evidence(folder, benchmarks, CONFIG, PROMPTS, **more)[0]


OLD, NEW = {"a": 0.0, "b": 1.0, "c": 1.0}, {"b": 0.0, "a": 1.0, "d": 1.0}


def test_the_win_rate_item_by_item(tmp_path: Path) -> None:
    facts = read(win_rate(tmp_path / "w")).winrate
    assert facts.scores[:2] == [1.0, 0.0]
    assert math.isnan(facts.scores[2])
    assert [math.isnan(share) for share in facts.shown_first] == [False, True, True]
    assert facts.lengths == [5, -1, 2]
    assert facts.clusters == ["g", "g", "p2"]
    assert (facts.leaked, facts.length_ratio, facts.consistency, facts.same_prompts) == (2, 1.25, 0.8, True)
    assert facts.empty_or_repeated == 0.5  # the second is empty, the third repeats itself


def test_unknown_training_data_is_no_count_of_zero(tmp_path: Path) -> None:
    unknown = {"found": {}, "reason": "no run of palate, so its training data is not known"}
    assert read(win_rate(tmp_path / "one", leaks=[{"found": {}, "reason": ""}, unknown])).winrate.leaked == 0
    assert read(win_rate(tmp_path / "none", leaks=[unknown, unknown])).winrate.leaked is None


def test_other_prompts_are_noticed_and_a_sequential_gate_takes_the_first_ones(tmp_path: Path) -> None:
    first = prompts_hash(PROMPTS[:3])
    folder = win_rate(tmp_path / "w", prompts_hash=first)
    assert not read(folder).winrate.same_prompts
    sequential = CONFIG.model_copy(update={"sequential": True})
    assert read_evidence(folder, (), sequential, PROMPTS)[0].winrate.same_prompts
    moved = [replace(PROMPTS[1]), *PROMPTS[:1], *PROMPTS[2:]]
    assert prompts_hash(moved) != prompts_hash(PROMPTS)


def test_models_are_found_by_their_weights_in_any_order_and_file(tmp_path: Path) -> None:
    folder = win_rate(tmp_path / "w")
    both = bench(tmp_path / "1.json", ("x", "cc", OLD), ("new", "aa", NEW), ("old", "bb", OLD))
    assert read(folder, both).guards == {"xstest/over_refusal": ([0.0, 1.0], [1.0, 0.0])}
    apart = [bench(tmp_path / "2.json", ("old", "bb", OLD)), bench(tmp_path / "3.json", ("new", "aa", NEW))]
    assert read(folder, *apart).guards == {"xstest/over_refusal": ([0.0, 1.0], [1.0, 0.0])}
    assert read(folder, apart[0]).guards == {}


def test_models_without_known_weights_are_before_and_after(tmp_path: Path) -> None:
    folder = win_rate(tmp_path / "w", a={"name": "dpo", "identities": []}, b={"name": "sft", "identities": []})
    assert read(folder, bench(tmp_path / "1.json", ("old", None, OLD), ("new", None, NEW))).guards == {
        "xstest/over_refusal": ([0.0, 1.0], [1.0, 0.0])
    }


def test_results_of_other_models_or_data_or_directions_are_refused(tmp_path: Path) -> None:
    folder = win_rate(tmp_path / "w")
    with pytest.raises(DataError, match="has neither model of the win rate, but x, y"):
        read(folder, bench(tmp_path / "1.json", ("x", "cc", OLD), ("y", "dd", NEW)))
    old = bench(tmp_path / "2.json", ("old", "bb", OLD))
    with pytest.raises(DataError, match="measured on other data"):
        read(folder, old, bench(tmp_path / "3.json", ("new", "aa", NEW), data="e"))
    stated = bench(tmp_path / "5.json", ("old", "bb", OLD), metrics={"over_refusal": "a share"}, lower_is_better=[])
    with pytest.raises(DataError, match=r"higher is better for xstest/over_refusal; .* lower_is_better: True"):
        read(folder, stated)
    for known in (["over_refusal"], None):  # None: the harness does not say
        both = [("old", "bb", OLD), ("new", "aa", NEW)]
        path = bench(tmp_path / "6.json", *both, metrics={"over_refusal": "a share"}, lower_is_better=known)
        assert read(folder, path).guards
    with pytest.raises(DataError, match="version 2"):
        read(win_rate(tmp_path / "v", version=2))


def test_must_pass_prompts_need_a_1_in_every_metric(tmp_path: Path) -> None:
    block = {"format": "palate-items", "version": 1, "metrics": {"m": {"a": 1, "b": 1, "c": None}, "k": {"b": 0}}}
    (tmp_path / "log.json").write_text(json.dumps({"items": block}))
    assert read(win_rate(tmp_path / "w"), must_pass=tmp_path / "log.json").must_pass == {"a": True, "b": False}


def test_the_card_must_be_of_this_judge_and_has_an_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from palate.feedback.calibration.card import JudgeIdentity

    card = SimpleNamespace(
        judge=JudgeIdentity("j", "m"), when="2026-01-01T00:00:00Z", verdict="may_decide_alone", reasons=()
    )
    monkeypatch.setattr("palate.loop.gate.evidence.load_card", lambda path: card)
    folder, now = win_rate(tmp_path / "w"), datetime(2026, 1, 11, tzinfo=UTC)
    found = read(folder, card=tmp_path / "card.json", now=now).card
    assert (found.matches, found.days) == (True, 10)
    card.judge = JudgeIdentity("j", "another")
    assert not read(folder, card=tmp_path / "card.json", now=now).card.matches


def test_results_are_sorted_by_content(tmp_path: Path) -> None:
    folder = win_rate(tmp_path / "w")
    (folder / "gate.json").write_text('{"kind": "gate"}')
    (tmp_path / "b").mkdir()
    found = find_results([bench(tmp_path / "b" / "bench-xstest.json", ("old", "bb", OLD)).parent, folder])
    assert found == (folder, [tmp_path / "b" / "bench-xstest.json"])
