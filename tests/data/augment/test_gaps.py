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
from runs import write_rows


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
    chance = random.Random(0)
    common = ("bake bread dough yeast oven flour", "stars moon planet orbit comet", "engine brake tyre wheel clutch")
    rows = []
    for n in range(300):
        topic = "income tax form deduction refund" if n < 4 else common[n % 3]
        asked = " ".join(chance.sample(topic.split(), 4))
        rows.append({"prompt": f"Tell me about {asked} please", "chosen": f"yes {n}", "rejected": f"no {n}"})
    found = inspect_dataset(str(write_rows(tmp_path / "d.jsonl", rows)))
    write_json(tmp_path / "i.json", found.as_json())
    gaps = read_gaps(tmp_path / "i.json")
    (topic,) = map(set, gaps.topics)
    assert topic == {"income", "tax", "form", "deduction", "refund"}
    assert gaps.kinds == ("helpfulness", "safety")
    # The same gaps as the report tells a person.
    assert [gap.split(" are about ")[1].split(" (")[0] for gap in found.gaps] == [
        "helpfulness",
        "safety",
        ", ".join(gaps.topics[0][:3]),
    ]


def test_no_gap_and_another_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no gap; leave --gaps out"):
        read_gaps(report(tmp_path / "i.json", [(["cook"], 0.5)], {}))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="is not a report of palate data inspect --json"):
        read_gaps(tmp_path / "x.json")
