"""Every export is read back as the pairs or labels that it was made from, and says what was left out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import palate
from palate.artifacts import read_jsonl
from palate.data import load_records
from palate.errors import DataError, UsageError
from palate.feedback.candidates import AnswerOrigin, Candidates, read_candidates
from palate.feedback.export.collection import Collection, Sampling, collection_of_files
from palate.feedback.export.export import ExportOptions, check_output, export_votes, write_candidates_of, write_votes
from palate.feedback.export.lineage import VoteSource
from palate.feedback.votes import Vote, read_votes
from palate.records import Answer, LabelledCompletion, Message, PreferencePair
from runs import write_rows

PERSON = Vote("p1", 0, 1, "left", "Ada", "2026-01-31T12:00:00Z", "left_first", kind="person")
PROMPT = (
    Message("system", "Be brief."),
    Message("user", "Why?"),
    Message("assistant", "How so?"),
    Message("user", "Q"),
)


def row(name: str, *texts: str, prompt: tuple[Message, ...] = PROMPT) -> Candidates:
    origins = tuple(AnswerOrigin(f"model-{number % 2}") for number in range(len(texts)))
    return Candidates(name, prompt, tuple(Answer(text, "stop") for text in texts), origins=origins)


ROWS = (
    row("p1", "one", "two", "three"),
    row("p2", "Ümlaut \U0001f600", '{braces} and "quotes"\nnew line'),
    row("p3", "bad", "worse"),
    row("p4", "same", "same."),
)
VOTES = (
    PERSON,
    replace(PERSON, who="Bob", outcome="right"),
    replace(PERSON, who="Cy", strength=2, dimensions={"clarity": (5, 2)}),
    replace(PERSON, right=2, outcome="tie"),
    replace(PERSON, item="p2", outcome="right"),
    replace(PERSON, item="p3", outcome="both_bad"),
    replace(PERSON, item="p4"),
    replace(PERSON, item="p2", who="Bob", outcome="skip"),
)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    candidates = write_rows(tmp_path / "c.jsonl", [row.to_json() for row in ROWS])
    votes = write_rows(tmp_path / "v.jsonl", [vote.to_json() for vote in VOTES])
    return collection_of_files(candidates, votes)


def texts(pairs: list[PreferencePair]) -> list[tuple[Any, ...]]:
    return [
        (pair.prompt, pair.chosen[0].content, pair.rejected[0].content, pair.weight, pair.dimensions) for pair in pairs
    ]


# (1 − 1 + 1) / 3 votes for the first of p1; p2's second answer won.
EXPECTED = [
    (PROMPT, "one", "two", pytest.approx(1 / 3), {"clarity": (5.0, 2.0)}),
    (PROMPT, '{braces} and "quotes"\nnew line', "Ümlaut \U0001f600", 1.0, None),
]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.parquet", "pairs.csv"])
@pytest.mark.parametrize("to", ["palate", "trl"])
def test_pairs_are_read_back(collection: Collection, tmp_path: Path, to: Any, name: str) -> None:
    done = export_votes(collection, tmp_path / "out" / name, ExportOptions(to))
    assert texts(palate.load_preferences(str(done.output)).records) == EXPECTED
    assert (done.rows, done.votes, done.compared, done.repeated, done.conflicts) == (2, 7, 5, 1, 1)
    assert done.conflict_rate == 1.0
    assert done.votes_left_out == {"skip": 1}
    assert done.left_out == {"tie": 1, "both_bad": 1, "equal": 1}
    assert done.same_model == 0


def test_trl_rows_are_conversations(collection: Collection, tmp_path: Path) -> None:
    export_votes(collection, tmp_path / "t.jsonl", ExportOptions("trl"))
    first = read_jsonl(tmp_path / "t.jsonl")[0]
    assert first["prompt"][0] == {"role": "system", "content": "Be brief."}
    assert first["chosen"] == [{"role": "assistant", "content": "one"}]
    assert first["rejected"] == [{"role": "assistant", "content": "two"}]


def test_datasets_reads_the_rows_of_trl(collection: Collection, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    done = export_votes(collection, tmp_path / "t.jsonl", ExportOptions("trl"))
    loaded = datasets.load_dataset(
        "json", data_files=str(done.output), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [found["chosen"][0]["content"] for found in loaded] == [pair[1] for pair in EXPECTED]


def test_llamafactory_rows_are_sharegpt_and_registered(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "other.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    (folder / "dataset_info.json").write_text(json.dumps({"other": {"file_name": "other.jsonl"}}))
    done = export_votes(collection, folder / "mine.jsonl", ExportOptions("llamafactory"))
    first = read_jsonl(done.output)[0]
    assert first["conversations"] == [
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "How so?"},
        {"from": "human", "value": "Q"},
    ]
    assert (first["chosen"], first["rejected"]) == ({"from": "gpt", "value": "one"}, {"from": "gpt", "value": "two"})
    assert first["system"] == "Be brief."
    register = json.loads((folder / "dataset_info.json").read_text())
    assert register["other"] == {"file_name": "other.jsonl"}
    assert register["mine"]["ranking"] is True
    assert texts(palate.load_preferences(str(done.output)).records) == EXPECTED
    # By its name, only the columns of the entry are read, as LLaMA-Factory does: no weight, no dimensions.
    named = palate.load_preferences("mine", dataset_dir=folder).records
    assert texts(named) == [(*row[:3], 1.0, None) for row in EXPECTED]


def test_kto_rows_have_the_answers_that_are_both_bad(collection: Collection, tmp_path: Path) -> None:
    done = export_votes(collection, tmp_path / "k.jsonl", ExportOptions("kto"))
    loaded = load_records(str(done.output), kind=LabelledCompletion).records
    assert [(record.completion[0].content, record.desirable, record.weight) for record in loaded] == [
        ("one", True, pytest.approx(1 / 3)),
        ("two", False, pytest.approx(1 / 3)),
        ("Ümlaut \U0001f600", False, 1.0),
        ('{braces} and "quotes"\nnew line', True, 1.0),
        ("bad", False, 1.0),
        ("worse", False, 1.0),
        ("same", True, 1.0),
        ("same.", False, 1.0),
    ]
    assert done.labels == {"desirable": 3, "undesirable": 5}


def test_weighted_votes_weigh_more(collection: Collection, tmp_path: Path) -> None:
    export_votes(collection, tmp_path / "w.jsonl", ExportOptions(aggregate="weighted"))
    assert palate.load_preferences(str(tmp_path / "w.jsonl")).records[0].weight == pytest.approx(
        2 / 3
    )  # (1 − 1 + 2) / 3


def test_kinds_of_voters_are_not_mixed_silently(collection: Collection, tmp_path: Path) -> None:
    judged = replace(PERSON, who="length", kind="rule", outcome="right", item="p2")
    mixed = replace(collection, votes=(*collection.votes, judged))
    with pytest.raises(UsageError, match="--voters"):
        export_votes(mixed, tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()
    export_votes(mixed, tmp_path / "m.jsonl", ExportOptions(voters="all"))
    voters = [found["lineage"]["voters"] for found in read_jsonl(tmp_path / "m.jsonl")]
    assert voters == [
        [{"kind": "person", "votes": 3}],
        [{"kind": "person", "votes": 1}, {"kind": "rule", "votes": 1}],
    ]
    judges = [found["lineage"]["judges"] for found in read_jsonl(tmp_path / "m.jsonl")]
    assert [[judge["name"] for judge in found] for found in judges] == [[], ["length"]]
    only = export_votes(mixed, tmp_path / "j.jsonl", ExportOptions(voters="judges"))
    assert (only.rows, only.voters, only.votes_left_out["other_voters"]) == (1, {"rule": 1}, 7)


def test_the_same_model_on_both_sides_is_marked(tmp_path: Path) -> None:
    rows = (replace(row("p1", "one", "two"), origins=(AnswerOrigin("m"),) * 2),)
    done = export_votes(Collection(VoteSource("x"), rows, (PERSON,)), tmp_path / "s.jsonl")
    assert done.same_model == 1
    assert read_jsonl(done.output)[0]["lineage"]["same_model"] is True


def test_rows_that_a_format_or_training_cannot_hold_are_listed(tmp_path: Path) -> None:
    twice = (Message("user", "a"), Message("user", "b"))
    rows = (row("p1", "one", "two"), row("p2", "one", "two", prompt=twice), row("p3", "one", ""))
    votes = (PERSON, replace(PERSON, item="p2"), replace(PERSON, item="p3"))
    done = export_votes(Collection(VoteSource("x"), rows, votes), tmp_path / "l.jsonl", ExportOptions("llamafactory"))
    assert (done.rows, done.left_out) == (1, {"not_held": 1, "empty_rejected": 1})
    listed = json.loads((tmp_path / "l.jsonl.data.json").read_text())["left_out"]
    assert [drop["id"] for drop in listed] == ["p2#0>1", "p3#0>1"]


def test_nothing_to_write_is_an_error_that_names_the_reasons(tmp_path: Path) -> None:
    votes = (replace(PERSON, outcome="tie"), replace(PERSON, who="Bob", gold=True))
    with pytest.raises(DataError, match="no row can be written as palate: 1 gold, 1 tie"):
        export_votes(Collection(VoteSource("x"), ROWS, votes), tmp_path / "n.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_card_states_facts_only(collection: Collection, tmp_path: Path) -> None:
    asked = replace(
        collection,
        schemas={1: {"criteria": "Which answer is | clearer?", "tags": ["tone"], "seed": 0}},
        sampling=Sampling(10, 10, 0.05, 0.2),
    )
    done = export_votes(asked, tmp_path / "p.jsonl")
    card = (tmp_path / "p.jsonl.README.md").read_text()
    assert [path.name for path in done.beside] == ["p.jsonl.data.json", "p.jsonl.README.md"]
    for line in (
        "| rows | 2 |",
        "| person | 7 votes (100.0%) by 3 people |",
        "| conflict rate (a vote for each answer, of comparisons with two votes or more) | 100.0% of 1 |",
        "| votes: skip | 1 |",
        "| comparisons, answers or rows: both_bad | 1 |",
        "| criteria | Which answer is \\| clearer? |",
        "10 of 10 comparisons have a stored probability of being drawn first from the campaign: 0.05 to 0.2.",
        "Not stated. To be filled in by the owner of the data",
        "Krippendorff's α of the people's votes",
    ):
        assert line in card
    assert not any(name in card for name in ("Ada", "Bob", "Cy "))
    contract = json.loads((tmp_path / "p.jsonl.data.json").read_text())
    assert contract["files"]["rows"]["sha256"] == hashlib.sha256(done.output.read_bytes()).hexdigest()
    assert (
        contract["options"]["files"]["votes"]["sha256"]
        == hashlib.sha256((tmp_path / "v.jsonl").read_bytes()).hexdigest()
    )


def test_people_are_not_named_in_rows(collection: Collection, tmp_path: Path) -> None:
    for to in ("palate", "kto"):
        export_votes(collection, tmp_path / "p.jsonl", ExportOptions(to))  # type: ignore[arg-type]
        assert "Ada" not in (tmp_path / "p.jsonl").read_text()


def test_votes_and_candidates_are_written_as_they_were(collection: Collection, tmp_path: Path) -> None:
    assert write_votes(collection, tmp_path / "v2.jsonl") == len(VOTES)
    assert read_votes(tmp_path / "v2.jsonl") == list(VOTES)
    assert write_candidates_of(collection, tmp_path / "c2.jsonl") == len(ROWS)
    assert read_candidates(tmp_path / "c2.jsonl") == list(ROWS)
    with pytest.raises(UsageError, match=r"name a file that ends in \.jsonl"):
        write_votes(collection, tmp_path / "v2.parquet")


def test_an_input_file_is_not_overwritten(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an input file"):
        check_output(tmp_path / "v.jsonl", collection)
