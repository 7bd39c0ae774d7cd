"""A mixture on disk has the wanted proportions, loses nothing silently, and does not depend on what is beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from palate.artifacts import write_text
from palate.data import load_records
from palate.data.mix_files import mix_files
from palate.errors import DataError, PalateError
from palate.records import DatasetRequest, PreferencePair


def written(path: Path, rows: int, broken: int = 0) -> str:
    pairs = [{"prompt": f"{path.stem} {n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(rows)]
    pairs += [{"prompt": f"bad {n}?", "chosen": "", "rejected": "no"} for n in range(broken)]
    write_text(path, "".join(json.dumps(row) + "\n" for row in pairs))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [written(tmp_path / "a.jsonl", 300), written(tmp_path / "b.jsonl", 100, broken=3)]


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, (300, 100)),
        ({"weights": {"a.jsonl": 1, "b.jsonl": 1}}, (100, 100)),
        ({"weights": {"a": 3, "b.jsonl": 1}, "rows": 80}, (60, 20)),
        ({"temperature": 2}, (173, 100)),
        ({"caps": {"a.jsonl": 10}}, (10, 100)),
        ({"rows": 10}, (8, 2)),
    ],
)
def test_proportions(sources: list[str], tmp_path: Path, options: dict[str, Any], taken: tuple[int, int]) -> None:
    done = mix_files(sources, tmp_path / "out", **options)
    assert tuple(done.taken.values()) == taken
    rows = lines(tmp_path / "out" / "mixed.jsonl")
    origins = [row["origin"] for row in rows]
    assert len(set(origins)) == len(origins) == sum(taken)
    assert tuple(sum(row["source"] == name for row in rows) for name in ("a", "b")) == taken
    # Rows in = rows drawn + rows not drawn + rows listed.
    assert sum(done.taken.values()) + sum(done.not_drawn.values()) + sum(done.unusable.values()) == 403
    assert [row["origin"] for row in lines(tmp_path / "out" / "left_out.jsonl")] == [
        f"b.jsonl:{n}" for n in (101, 102, 103)
    ]


def test_a_source_column_of_the_rows_own_stays(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    write_text(tmp_path / "a.jsonl", json.dumps({**row, "source": "evol"}) + "\n" + json.dumps(row) + "\n")
    mix_files([str(tmp_path / "a.jsonl")], tmp_path / "out")
    assert [line["source"] for line in lines(tmp_path / "out" / "mixed.jsonl")] == ["evol", "a"]


def test_any_stretch_of_it_is_the_mixture(sources: list[str], tmp_path: Path) -> None:
    mix_files(sources, tmp_path / "out", rows=200)
    rows = [row["source"] for row in lines(tmp_path / "out" / "mixed.jsonl")]
    for start in range(0, 200, 20):
        assert rows[start : start + 20].count("b") == 5


def test_the_same_bytes_again_and_other_sources_change_nothing(sources: list[str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        mix_files(DatasetRequest(sources, seed=3), tmp_path / name, caps={"a.jsonl": 40})
    mixed = [(tmp_path / name / "mixed.jsonl").read_bytes() for name in ("one", "two")]
    assert mixed[0] == mixed[1]
    mix_files(DatasetRequest(sources[:1], seed=3), tmp_path / "alone", caps={"a.jsonl": 40})
    alone = [row["origin"] for row in lines(tmp_path / "alone" / "mixed.jsonl")]
    beside = [row["origin"] for row in lines(tmp_path / "one" / "mixed.jsonl") if row["source"] == "a"]
    assert alone == beside
    assert alone != [f"a.jsonl:{n}" for n in range(1, 41)]
    mix_files(DatasetRequest(sources, seed=4), tmp_path / "other", caps={"a.jsonl": 40})
    assert (tmp_path / "other" / "mixed.jsonl").read_bytes() != mixed[0]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow"])
def test_training_reads_the_folder(sources: list[str], tmp_path: Path, form: str) -> None:
    mix_files(sources, tmp_path / "out", form=form, rows=50)
    loaded = load_records(str(tmp_path / "out"), kind=PreferencePair)
    assert len(loaded.records) == 50
    assert loaded.dropped == []
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["schema"] == "palate.data/1"
    assert card["counts"]["taken"] == {"a": 38, "b": 12}
    assert [set(source["files"]) for source in card["lineage"]] == [{"a.jsonl"}, {"b.jsonl"}]
    if form == "arrow":  # what `datasets` maps into memory as it is
        mapped = Dataset.from_file(str(tmp_path / "out" / "mixed.arrow"))
        assert mapped[49]["origin"] == loaded.records[49].extra["origin"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": {"a.jsonl": 1}}, "no weight for b;"),
        ({"weights": {"c.jsonl": 1}}, "weights names 'c.jsonl', which is not a source; did you mean"),
        ({"caps": {"xyz": 1}}, "caps names 'xyz', which is not a source; sources are a, b"),
        ({"temperature": 0}, "temperature is 0"),
        ({"caps": {"a.jsonl": 0}, "temperature": 1}, "source 1 of the mixture has no row to give"),
        ({"kind": "triples"}, "unknown kind 'triples'"),
        ({"form": "xml"}, "cannot write a mixture as 'xml'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    sources: list[str], tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(PalateError, match=says) as caught:
        mix_files(sources, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_palate_did_not_write_is_not_replaced(sources: list[str], tmp_path: Path) -> None:
    write_text(tmp_path / "mine" / "thesis.txt", "years of work")
    with pytest.raises(DataError, match="was not written by palate data"):
        mix_files(sources, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
