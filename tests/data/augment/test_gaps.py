"""Gaps are read from what `palate data inspect --json` writes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from palate.artifacts import write_json
from palate.data.augment.gaps import Gaps, read_gaps
from palate.data.inspect import inspect_dataset
from palate.errors import DataError, UsageError
from palate.records import Message


def report(path: Path, clusters: list[tuple[list[str], float]], improvements: dict[str, int]) -> Path:
    listed = [{"words": words, "prompts": 1, "share": share} for words, share in clusters]
    path.write_text(json.dumps({"clusters": listed, "improvements": improvements}))
    return path


def test_rare_topics_and_kinds_are_the_gaps(tmp_path: Path) -> None:
    path = report(
        tmp_path / "i.json",
        [(["cook", "rice"], 0.5), (["tax", "income", "form"], 0.01)],
        {"accuracy": 1, "helpfulness": 60, "safety": 39},
    )
    found = read_gaps(path)
    assert found == Gaps((("tax", "income", "form"),), ("accuracy",))
    assert found.covers((Message("user", "Which FORM is for income?"),))
    assert not found.covers((Message("user", "Which form is for rice?"),))
    assert Gaps((), ("accuracy",)).covers((Message("user", "anything"),))


def test_a_report_of_inspect_is_read(tmp_path: Path) -> None:
    words = random.Random(0)
    topics = {"bread": "bake bread dough yeast oven", "tax": "income tax form deduction refund"}
    rows = []
    for n in range(200):
        topic = "tax" if n < 2 else "bread"
        asked = " ".join(words.sample(topics[topic].split(), 4))
        rows.append({"prompt": f"Tell me about {asked} please {n}", "chosen": f"yes {n}", "rejected": f"no {n}"})
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(str(path))
    write_json(tmp_path / "i.json", found.as_json())
    rare = [cluster for cluster in found.clusters if cluster.share < 0.02]
    assert len(rare) == len([gap for gap in found.gaps if gap.startswith("few prompts")])
    if rare or any(gap.startswith("few pairs") for gap in found.gaps):
        assert read_gaps(tmp_path / "i.json").topics == tuple(cluster.words for cluster in rare)
    else:
        with pytest.raises(UsageError, match="found no gap"):
            read_gaps(tmp_path / "i.json")


def test_no_gap_and_another_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no gap; leave --gaps out"):
        read_gaps(report(tmp_path / "i.json", [(["cook"], 0.5)], {}))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="is not a report of palate data inspect --json"):
        read_gaps(tmp_path / "x.json")
