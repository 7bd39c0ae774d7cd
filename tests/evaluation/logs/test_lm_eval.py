"""Sample logs as lm-evaluation-harness writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.errors import ArtifactError, DataError
from palate.evaluation.logs.lm_eval import read_lm_eval, task_of


def sample(doc: int, **changes: Any) -> dict[str, Any]:
    row = {
        "doc_id": doc,
        "doc": {"question": f"q{doc}"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"q{doc}", "arg_1": {}}},
        "resps": [["4"]],
        "filtered_resps": ["4"],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"hash{doc}",
        "prompt_hash": "p",
        "target_hash": "t",
        "acc": 1.0,
    }
    return {**row, **changes}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_values_and_hashes_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "my__model" / "samples_arc_2026-01-02T03-04-05.678.jsonl", sample(0), sample(10, acc=0.0))
    found = read_lm_eval(path)
    assert found.metrics == {"acc": {"0": 1.0, "10": 0.0}}
    assert found.hashes == {"0": "hash0", "10": "hash10"}
    assert (found.name, found.repeated, task_of(path)) == ("my__model", 0, "arc")


def test_each_filter_is_a_metric(tmp_path: Path) -> None:
    both = [
        sample(0, filter=name, metrics=["exact_match"], exact_match=value)
        for name, value in (("strict-match", 0.0), ("flexible-extract", 1.0))
    ]
    found = read_lm_eval(write(tmp_path / "samples_gsm8k_x.jsonl", *both))
    assert found.metrics == {"exact_match,strict-match": {"0": 0.0}, "exact_match,flexible-extract": {"0": 1.0}}
    assert found.repeated == 0


def test_older_logs_name_neither_metrics_nor_hashes(tmp_path: Path) -> None:
    old = {key: value for key, value in sample(3).items() if key not in ("metrics", "doc_hash", "filter")}
    other = {**old, "doc": {"question": "another"}}
    found = read_lm_eval(write(tmp_path / "a.jsonl", old))
    assert found.metrics == {"acc": {"3": 1.0}}
    assert found.hashes != read_lm_eval(write(tmp_path / "b.jsonl", other)).hashes


def test_metrics_without_numbers_are_named(tmp_path: Path) -> None:
    row = sample(0, metrics=["acc", "word_perplexity"], word_perplexity=[-3.0, 5])
    found = read_lm_eval(write(tmp_path / "a.jsonl", row, {**row, "doc_id": 1, "acc": float("nan")}))
    assert found.metrics == {"acc": {"0": 1.0, "1": None}}
    assert found.notes == ("word_perplexity is left out: its values are no numbers in 2 lines",)


def test_bad_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.jsonl:2: not a sample of lm-evaluation-harness"):
        read_lm_eval(write(tmp_path / "a.jsonl", sample(0), {"step": 1}))
    with pytest.raises(DataError, match=r"b.jsonl:1: metric acc_norm is named but has no value"):
        read_lm_eval(write(tmp_path / "b.jsonl", sample(0, metrics=["acc", "acc_norm"])))
    with pytest.raises(DataError, match="id 0 stands for two different items"):
        read_lm_eval(write(tmp_path / "c.jsonl", sample(0), sample(0, doc_hash="other")))
    damaged = tmp_path / "d.jsonl"
    damaged.write_text(json.dumps(sample(0)) + "\n{broken\n" + json.dumps(sample(1)) + "\n")
    with pytest.raises(ArtifactError, match=r"d\.jsonl:2: not valid JSON"):
        read_lm_eval(damaged)
