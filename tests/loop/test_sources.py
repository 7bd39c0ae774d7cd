"""One training set from several sources: who compared stays known, and nobody is counted twice or silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json, read_jsonl
from palate.data import load_records
from palate.errors import DataError, UsageError
from palate.loop.sources import PAIRS, THUMBS, PreferenceSource, mix_sources
from palate.records import LabelledCompletion, PreferencePair
from runs import write_rows


def voted(number: int, better: str, worse: str, *voters: str, **columns: Any) -> dict[str, Any]:
    """A row as `palate label export` writes it."""
    lineage = {
        "source": "campaign c",
        "item": f"i{number}",
        "votes": [f"{kind}-{number}" for kind in voters],
        "voters": [{"kind": kind, "votes": 1} for kind in voters],
    }
    row = {"id": f"i{number}#0>1", "prompt": f"question {number}", "chosen": better, "rejected": worse}
    return {**row, "votes": len(voters), "lineage": lineage, **columns}


def said(number: int, what: str, **columns: Any) -> dict[str, Any]:
    """A row as `palate data from-interactions` writes it."""
    return {"id": f"x{number}", "prompt": f"asked {number}", **columns, "lineage": {"source": what, "interaction": "x"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    people = [voted(n, f"good {n}", f"bad {n}", "person") for n in range(3)]
    # The first agrees with the people, the second does not; of the third, the spelling differs only.
    machine = [voted(0, "good 0", "bad 0", "judge"), voted(1, "bad 1", "good 1", "judge")]
    machine += [voted(2, "Good  2", "bad 2", "rule"), voted(7, "a", "b", "judge", weight=0.5)]
    feedback = [said(1, "edit", chosen="mended", rejected="first"), said(2, "choice", chosen="this", rejected="that")]
    write_rows(tmp_path / "people.jsonl", people)
    write_rows(tmp_path / "judge.jsonl", machine)
    write_rows(tmp_path / "feedback.jsonl", feedback)
    write_rows(tmp_path / "kto.jsonl", [said(3, "thumbs", completion="ok", label=True)])
    write_rows(tmp_path / "old.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b", "source": "a book"}])
    return tmp_path


def sources(folder: Path) -> list[PreferenceSource]:
    return [
        PreferenceSource("people", "human", folder / "people.jsonl", 1.0),
        PreferenceSource("judge", "machine", folder / "judge.jsonl", 0.5),
        PreferenceSource("edits", "human", folder / "feedback.jsonl", 2.0),
        PreferenceSource("old.jsonl", "imported", folder / "old.jsonl", 0.25),
    ]


def test_rows_keep_source_kind_weight_and_lineage(folder: Path) -> None:
    done = mix_sources(sources(folder), folder / "out", seed=3)
    rows = {row["id"]: row for row in read_jsonl(folder / "out" / PAIRS)}
    assert {name: (row["source"], row["source_kind"], row["weight"]) for name, row in rows.items()} == {
        **{f"i{n}#0>1": ("people", "human", 1.0) for n in range(3)},
        "i7#0>1": ("judge", "machine", 0.25),
        "x1": ("edits", "human", 2.0),
        "old.jsonl:1": ("old.jsonl", "imported", 0.25),
    }
    assert rows["i1#0>1"]["lineage"]["votes"] == ["person-1"]
    assert rows["x1"]["lineage"]["interaction"] == "x"
    assert (done.agreed, done.overruled, done.contradictory) == (2, 1, 0)
    assert (done.kinds, done.datasets) == ({"human": 4, "machine": 1, "imported": 1}, (folder / "out" / PAIRS,))
    # 3 · 1 + 0.25 + 2 + 0.25 = 5.5
    shares: dict[str, Any] = {one.source: (one.rows, one.share, one.weight, one.loss_share) for one in done.sources}
    assert list(shares) == ["people", "judge", "edits", "old.jsonl"]
    assert shares["edits"] == (1, pytest.approx(1 / 6), 2.0, pytest.approx(2 / 5.5))
    assert shares["judge"] == (1, pytest.approx(1 / 6), 0.5, pytest.approx(0.25 / 5.5))
    contract = read_json(folder / "out" / "data.json")
    assert [one["kind"] for one in contract["counts"]["comparisons"]] == ["human", "machine", "human", "imported"]
    assert contract["counts"]["overruled"] == 1
    loaded = load_records(str(folder / "out"), kind=PreferencePair).records  # as training reads the folder
    assert sorted(record.weight for record in loaded) == [0.25, 0.25, 1.0, 1.0, 1.0, 2.0]


def test_the_same_sources_and_seed_give_the_same_bytes(folder: Path) -> None:
    written = []
    for seed in (3, 3, 4):
        mix_sources(sources(folder), folder / "out", seed=seed)
        written.append({path.name: path.read_bytes() for path in (folder / "out").iterdir()})
    assert written[0] == written[1]
    assert written[2][PAIRS] != written[0][PAIRS]
    assert sorted(written[2][PAIRS].splitlines()) == sorted(written[0][PAIRS].splitlines())


def test_sources_of_equal_rank_that_disagree_give_nothing(folder: Path) -> None:
    write_rows(folder / "more.jsonl", [voted(0, "bad 0", "good 0", "person"), voted(9, "c", "d", "person")])
    given = [*sources(folder)[:2], PreferenceSource("choices", "human", folder / "more.jsonl")]
    done = mix_sources(given, folder / "out")
    ids = {row["id"] for row in read_jsonl(folder / "out" / PAIRS)}
    assert ids == {"i1#0>1", "i2#0>1", "i7#0>1", "i9#0>1"}
    assert (done.contradictory, done.overruled, done.agreed) == (2, 2, 1)  # the judge's row on item 0 goes, too


def test_a_row_of_a_mixed_set_keeps_who_compared(folder: Path) -> None:
    mix_sources(sources(folder), folder / "last")
    write_rows(folder / "new.jsonl", [voted(50, "a", "b", "person")])
    given = [
        PreferenceSource("people", "human", folder / "new.jsonl"),
        PreferenceSource("last", "imported", folder / "last", 0.2),
    ]
    done = mix_sources(given, folder / "out")
    assert done.kinds == {"human": 5, "machine": 1, "imported": 1}
    weights = {row["id"]: row["weight"] for row in read_jsonl(folder / "out" / PAIRS)}
    assert weights["i7#0>1"] == pytest.approx(0.05)


def test_thumbs_are_for_kto_alone(folder: Path) -> None:
    given = [sources(folder)[0], PreferenceSource("thumbs", "human", folder / "kto.jsonl", 0.5)]
    with pytest.raises(UsageError, match="thumbs label single answers, which only `stage: kto` trains on"):
        mix_sources(given, folder / "out")
    done = mix_sources(given, folder / "out", kto=True)
    assert done.datasets == (folder / "out" / PAIRS, folder / "out" / THUMBS)
    assert [one.loss_share for one in done.sources] == [pytest.approx(6 / 6.5), pytest.approx(0.5 / 6.5)]
    loaded = load_records([str(path) for path in done.datasets], kind=LabelledCompletion).records
    found = sorted((record.desirable, record.weight) for record in loaded)
    assert found == [*[(False, 1.0)] * 3, (True, 0.5), *[(True, 1.0)] * 3]
    only = mix_sources(given[1:], folder / "only", kto=True)
    assert load_records(str(folder / "only"), kind=LabelledCompletion).records[0].desirable
    assert only.datasets == (folder / "only" / THUMBS,)


@pytest.mark.parametrize(
    ("voters", "name", "kind", "line"),
    [
        (("judge",), "people", "human", r"x\.jsonl:1: is machine, but people is a human source; .* --voters people"),
        (("person", "judge"), "people", "human", "is of people and judges, but people"),
        (("person",), "judge", "machine", "is human, but judge is a machine source; export it with --voters judges"),
    ],
)
def test_a_source_is_of_those_that_it_names(
    tmp_path: Path, voters: tuple[str, ...], name: str, kind: Any, line: str
) -> None:
    write_rows(tmp_path / "x.jsonl", [voted(1, "a", "b", *voters)])
    with pytest.raises(DataError, match=line):
        mix_sources([PreferenceSource(name, kind, tmp_path / "x.jsonl")], tmp_path / "out")


def test_what_cannot_be_mixed(folder: Path) -> None:
    people = sources(folder)[0]
    with pytest.raises(UsageError, match="people has weight 0; give one above 0, or leave it out"):
        mix_sources([PreferenceSource("people", "human", people.path, 0.0)], folder / "out")
    with pytest.raises(UsageError, match="sources names people twice"):
        mix_sources([people, people], folder / "out")
    with pytest.raises(DataError, match="was not written by palate data"):
        mix_sources([people], folder)
    write_rows(folder / "edits.jsonl", [said(1, "edit", chosen="mended", rejected="first")])
    with pytest.raises(DataError, match="leave nothing to train on"):
        mix_sources([PreferenceSource("choices", "human", folder / "edits.jsonl")], folder / "out")
    write_rows(folder / "bad.jsonl", [voted(1, "a", "a", "person"), voted(2, "a", "b", "person")])
    done = mix_sources([PreferenceSource("people", "human", folder / "bad.jsonl")], folder / "out")
    assert done.unusable == {"equal": 1}
    assert read_json(folder / "out" / "data.json")["left_out"][0]["id"] == "people bad.jsonl:1"
