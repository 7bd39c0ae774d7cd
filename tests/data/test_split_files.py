"""Held-out files share no prompt, nor one nearly the same, with the training file."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from palate.data import load_records
from palate.data.split_files import assign, split_files
from palate.errors import DataError
from palate.records import DatasetRequest, PreferencePair

WORDS = ["apple", "river", "stone", "cloud", "paper", "music", "ocean", "green", "table", "light", "horse", "bread"]


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {"prompt": f"{' '.join(chance.choices(WORDS, k=15))} {seed}", "chosen": f"a {n}", "rejected": f"b {n}"}
        for n in range(count)
    ]


def written(folder: Path, content: list[dict[str, Any]], name: str) -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(folder / name)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_parts_are_stratified_and_share_no_prompt(tmp_path: Path) -> None:
    large, small = rows(300, 1), rows(60, 2)
    # Every tenth prompt comes again: once equal, once with one word changed.
    large += [{**row, "chosen": "other"} for row in large[:300:10]]
    large += [{**row, "prompt": row["prompt"] + " please"} for row in large[:300:10]]
    sources = [written(tmp_path, large, "large.jsonl"), written(tmp_path, small, "small.jsonl")]
    done = split_files(sources, tmp_path / "out", {"validation": 0.1, "test": 42})
    parts = {name: lines(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 420
    assert (len(parts["validation"]), len(parts["test"])) == (42, 42)
    assert done.counts["validation"] == {"large": 36, "small": 6}
    assert done.counts["test"] == {"large": 36, "small": 6}
    assert asdict(done)["counts"] == done.counts, "plain dicts, not what counted the rows"
    for left, right in (("train", "validation"), ("train", "test"), ("validation", "test")):
        asked = {row["prompt"][0]["content"].removesuffix(" please") for row in parts[left]}
        assert not asked & {row["prompt"][0]["content"].removesuffix(" please") for row in parts[right]}
    assert done.clusters == 360


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    content = rows(100, 3)
    written(tmp_path, content, "a.jsonl")
    split_files(DatasetRequest(str(tmp_path / "a.jsonl"), seed=5), tmp_path / "one", {"test": 10})
    written(tmp_path, random.Random(0).sample(content, 100), "a.jsonl")
    split_files(DatasetRequest(str(tmp_path / "a.jsonl"), seed=5), tmp_path / "two", {"test": 10})
    one, two = ({row["prompt"][0]["content"] for row in lines(tmp_path / d / "test.jsonl")} for d in ("one", "two"))
    assert one == two
    split_files(DatasetRequest(str(tmp_path / "a.jsonl"), seed=6), tmp_path / "two", {"test": 10})
    assert one != {row["prompt"][0]["content"] for row in lines(tmp_path / "two" / "test.jsonl")}


def test_the_folder_is_a_dataset(tmp_path: Path) -> None:
    path = written(tmp_path, [*rows(50, 4), {"prompt": "", "chosen": "a", "rejected": "b"}], "a.jsonl")
    done = split_files(path, tmp_path / "out", {"test": 5})
    assert [drop.reason for drop in done.left_out] == ["empty_prompt"]
    assert len(load_records(str(tmp_path / "out"), kind=PreferencePair).records) == 45
    assert len(load_records(str(tmp_path / "out"), kind=PreferencePair, split="test").records) == 5
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["counts"] == {"train": {"a": 45}, "test": {"a": 5}}


def test_a_file_without_a_usable_row_says_why(tmp_path: Path) -> None:
    bad = written(tmp_path, [{**row, "chosen": ""} for row in rows(3, 1)], "bad.jsonl")
    with pytest.raises(DataError, match=r"bad\.jsonl: no row can be used: empty_chosen 3"):
        split_files(bad, tmp_path / "out", {"test": 1})


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, rows(10, 1), "a.jsonl")
    for sizes, says in (
        ({"test": 10}, "would leave nothing to train on"),
        ({"a": 0.5, "b": 0.5}, "would leave nothing to train on"),
        ({"train": 0.1}, "need names of their own, not 'train'"),
        ({"../x": 0.1}, "need names of their own"),
        ({}, "no part is held out"),
        ({"test": -1}, "would leave nothing"),
        ({"test": 0.01}, "test would be empty: the share is too small for 10 rows"),
    ):
        with pytest.raises(DataError, match=says):
            split_files(path, tmp_path / "out", sizes)
    assert not (tmp_path / "out").exists()


def test_real_files(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    names = [str(shared_data(f"preference/{name}")) for name in ("lf_dpo_en_demo.json", "lf_dpo_zh_demo.json")]
    done = split_files(names, tmp_path / "out", {"validation": 0.1})
    assert done.counts["validation"] == {"lf_dpo_en_demo": 30, "lf_dpo_zh_demo": 30}


def texts(count: int, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [{"text": " ".join(chance.choices(WORDS, k=30)) + f" {n}"} for n in range(count)]


def test_plain_texts_are_clustered_by_their_text(tmp_path: Path) -> None:
    """Their ids, `train-00000-of-00001.jsonl:N`, are nearly the same for all rows."""
    content = texts(1_000, 5)
    path = written(tmp_path, [*content, *content[:50]], "train-00000-of-00001.jsonl")
    done = split_files(path, tmp_path / "out", {"validation": 0.1})
    assert done.clusters == 1_000
    train, held_out = ({row["text"] for row in lines(tmp_path / "out" / f"{name}.jsonl")} for name in done.counts)
    assert not train & held_out
    assert sum(done.counts["validation"].values()) == 105


def test_the_whole_conversation_is_compared_and_not_its_last_turn(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You are a helpful assistant. " * 40}
    rows_ = [
        {
            "prompt": [
                *([system] if n % 2 else []),
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": "Well."},
                {"role": "user", "content": "Thank you. Please go on with the next part."},
            ],
            "chosen": "a",
            "rejected": "b",
        }
        for n, row in enumerate(rows(100, 6))
    ]
    # Every tenth question comes again under another system text: the same prompt but for what the model was told.
    rows_ += [{**row, "prompt": [{**system, "content": "Be brief."}, *row["prompt"][-3:]]} for row in rows_[::10]]
    done = split_files(written(tmp_path, rows_, "a.jsonl"), tmp_path / "out", {"test": 0.2})
    assert done.clusters == 100
    train, test = (
        {row["prompt"][-3]["content"] for row in lines(tmp_path / "out" / f"{part}.jsonl")}
        for part in ("train", "test")
    )
    assert not train & test


def test_no_row_is_held_in_memory(tmp_path: Path) -> None:
    """1,000 rows of 10 kB, half of them held out: far less than the 5 MB of the held-out half is ever allocated."""
    padding = "x" * 5_000
    path = written(
        tmp_path,
        [{**row, "chosen": padding + row["chosen"], "rejected": padding + row["rejected"]} for row in rows(1_000, 7)],
        "a.jsonl",
    )
    tracemalloc.start()
    split_files(path, tmp_path / "out", {"validation": 0.5}, threshold=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6
    assert len(lines(tmp_path / "out" / "validation.jsonl")) == 500


def test_a_file_that_changes_between_the_passes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, rows(30, 8), "a.jsonl")

    def shortened(*given: Any) -> list[str]:
        written(tmp_path, rows(20, 8), "a.jsonl")
        return assign(*given)

    monkeypatch.setattr("palate.data.split_files.assign", shortened)
    with pytest.raises(DataError, match="a source changed while it was read: 20 rows, before 30"):
        split_files(path, tmp_path / "out", {"test": 0.2})
    assert not (tmp_path / "out").exists()
