"""Loading: every row is a record or listed, and bad datasets are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.data import LoadedData, load_records
from palate.data.formats.source_labels import check_labels_used
from palate.errors import DataError
from palate.records import (
    Demonstration,
    Dropped,
    LabelledCompletion,
    Message,
    PreferencePair,
    Ranking,
    Record,
    ScoredCompletion,
)

EQUAL = "chosen and rejected are equal"
NOTHING_ASKED = "nothing is asked: the prompt's last turn is empty or it has no user turn"
GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}


def written(folder: Path, rows: list[Any], name: str = "pairs.jsonl") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(dataset: Any, **options: Any) -> LoadedData[PreferencePair]:
    return load_records(dataset, kind=PreferencePair, **options)


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({**GOOD, "prompt": " "}, "empty_prompt", NOTHING_ASKED),
        ({**GOOD, "chosen": "\n"}, "empty_chosen", "chosen is empty"),
        ({**GOOD, "rejected": ""}, "empty_rejected", "rejected is empty"),
        ({**GOOD, "rejected": "a"}, "equal", "chosen and rejected are equal: a"),
        ({**GOOD, "rejected": " a."}, "equal", f"{EQUAL} apart from white space or a closing full stop: a"),
        ({"prompt": "q", "chosen": "a"}, "missing_key", "has no 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "missing_key", "has no 'prompt'"),
        ({**GOOD, "chosen": None}, "not_text", "chosen is null"),
        ({**GOOD, "chosen": 7}, "not_text", "chosen is int 7"),
        ({**GOOD, "chosen": []}, "empty_chosen", "chosen is an empty list"),
        ({**GOOD, "chosen": "\ud800"}, "not_text", "chosen holds half a surrogate pair at character 1"),
        ({**GOOD, "chosen": [{"role": "user", "content": "x"}]}, "no_assistant_turn",
         "chosen does not end with an assistant turn but with user"),
        ({**GOOD, "prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
         "prompt_ends_with_assistant", "the prompt ends with an answer: y"),
        ({**GOOD, "weight": 0}, "bad_weight", "weight is 0; it must be above 0"),
        ({**GOOD, "margin": "wide"}, "not_a_number", "margin is wide"),
        ({**GOOD, "margin": float("nan")}, "not_a_number", "margin is nan"),
        ({**GOOD, "dimensions": [1]}, "bad_dimensions", "dimensions is [1]"),
        (["q", "a", "b"], "not_an_object", "the row is ['q', 'a', 'b']"),
        (None, "not_an_object", "the row is None"),
    ],
)  # fmt: skip
def test_a_bad_row_is_dropped_with_its_reason(tmp_path: Path, row: Any, reason: str, detail: str) -> None:
    loaded = load(written(tmp_path, [GOOD, row, GOOD]))
    assert loaded.dropped == [Dropped("pairs.jsonl:2", reason, detail)]
    assert [record.id for record in loaded.records] == ["pairs.jsonl:1", "pairs.jsonl:3"]
    assert loaded.sources[0].dropped_by_reason == {reason: 1}


def test_what_a_pair_carries(tmp_path: Path) -> None:
    row = {
        **GOOD,
        "system": "be kind",
        "weight": "0.5",
        "tools": [{"name": "f"}],
        "dimensions": {"safety": {"chosen": 5, "rejected": 3}, "accuracy": [1, 2], "style": None, "tone": [None, 1]},
        "chosen_score": 8,
        "rejected_score": 5.5,
        "lang": "de",
        "id": 9,
    }
    loaded = load(written(tmp_path, [row]))
    assert loaded.records == [
        PreferencePair(
            id="pairs.jsonl:1",
            source="pairs",
            prompt=(Message("system", "be kind"), Message("user", "q")),
            chosen=(Message("assistant", "a"),),
            rejected=(Message("assistant", "b"),),
            weight=0.5,
            tools='[{"name": "f"}]',
            margin=2.5,
            dimensions={"safety": (5.0, 3.0), "accuracy": (1.0, 2.0)},
            extra={"lang": "de", "id": 9},
        )
    ]
    assert loaded.sources[0].unknown_columns == ("lang", "id")


def test_columns_mapped_by_hand(tmp_path: Path) -> None:
    rows = [{"ask": "q", "good": "a", "bad": "b", "prompt": "not this"}]
    loaded = load(written(tmp_path, rows), columns={"prompt": "ask", "chosen": "good", "rejected": "bad"})
    assert loaded.records[0].prompt == (Message("user", "q"),)
    assert loaded.records[0].extra == {"prompt": "not this"}


def test_a_mapped_column_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, [{"ask": "q", "good": "a", "bad": "b"}])
    with pytest.raises(DataError, match="maps chosen to 'god', which no row has; did you mean good"):
        load(path, columns={"prompt": "ask", "chosen": "god", "rejected": "bad"})


def test_nothing_left_says_why(tmp_path: Path) -> None:
    path = written(tmp_path, [{**GOOD, "rejected": "a"}, {**GOOD, "chosen": ""}, {**GOOD, "rejected": "a"}])
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: no row can be used: equal 2 (first: pairs.jsonl:1), empty_chosen 1 "
        "(first: pairs.jsonl:2); pairs.jsonl:1: chosen and rejected are equal: a"
    )


def test_too_much_dropped_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [GOOD, {**GOOD, "rejected": "a"}, {**GOOD, "chosen": ""}])
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used \(67%, allowed 50%\).*max_dropped: 0.67"):
        load(path)
    assert len(load(path, max_dropped=0.7).records) == 1


def test_ties_and_missing_labels_count_as_dropped(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer_1": "a", "answer_2": "b", "chosen": value} for value in (1, None, "tie", 0, 1.5)]
    path = written(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: 4 of 5 rows cannot be used (80%, allowed 50%): tie 3 (first: pairs.jsonl:3), no_label 1 (first: "
        "pairs.jsonl:2); correct them, or use the others with max_dropped: 0.8 (a tie does not show which answer "
        "is better)"
    )
    loaded = load(path, max_dropped=0.8)
    assert [record.id for record in loaded.records] == ["pairs.jsonl:1"]
    assert loaded.sources[0].dropped_by_reason == {"tie": 3, "no_label": 1}


def test_meanings_of_values_that_no_row_has(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response_1": "a", "response_2": "b", "label": label} for label in (0, 1)]
    path, labels = written(tmp_path, rows), {"A": "first", "B": "second"}
    loaded = load(path, labels=labels)
    assert loaded.sources[0].label_values == {"0": 1, "1": 1}
    with pytest.raises(DataError) as caught:
        check_labels_used(loaded.sources, labels)
    assert str(caught.value) == f"{path}: labels says what A, B means, but the values are 0, 1"
    check_labels_used(loaded.sources, {"0": "first", "2": "tie"})


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no row in it"):
        load(written(tmp_path, []))
    with pytest.raises(DataError, match="none of its first rows is an object"):
        load(written(tmp_path, [1, "x"]))


def test_max_samples_takes_the_first_rows(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, [GOOD, {**GOOD, "chosen": ""}, *[GOOD] * 300]), max_samples=250)
    assert (loaded.rows_read, len(loaded.records), len(loaded.dropped)) == (250, 249, 1)


def test_several_sources_keep_their_names_and_ids_apart(tmp_path: Path) -> None:
    first, second = written(tmp_path, [GOOD], "a/train.jsonl"), written(tmp_path, [GOOD], "b/train.jsonl")
    for dataset in ([first, second], f"{first}, {second}"):
        loaded = load(dataset)
        assert [record.id for record in loaded.records] == ["a/train.jsonl:1", "b/train.jsonl:1"]
        assert [source.name for source in loaded.sources] == [first, second]
        assert [record.source for record in loaded.records] == [first, second]
    with pytest.raises(DataError, match="is in the dataset twice"):
        load([first, first])


def test_a_mixture_takes_what_the_weights_say(tmp_path: Path) -> None:
    rows = [{**GOOD, "chosen": f"a{n}"} for n in range(100)]
    first, second = written(tmp_path, rows, "first.jsonl"), written(tmp_path, rows, "second.jsonl")
    loaded = load({first: 3, second: 1}, seed=7)
    assert [source.records for source in loaded.sources] == [100, 33]
    assert loaded.sources[1].dropped_by_reason == {"not_drawn": 67}
    assert loaded.rows_read == len(loaded.records) + len(loaded.dropped) == 200
    again = load({second: 1, first: 3}, seed=7)
    ids = {record.id for record in loaded.records}
    assert ids == {record.id for record in again.records}
    assert ids != {record.id for record in load({first: 3, second: 1}, seed=8).records}


def test_rows_of_which_one_record_is_drawn_are_used(tmp_path: Path) -> None:
    first = written(tmp_path, [{**GOOD, "chosen": f"a{n}"} for n in range(10)], "first#1.jsonl")
    loaded = load_records(first, kind=LabelledCompletion, caps={"first#1": 5}, seed=1)
    (report,) = loaded.sources
    rows = {record.id.rpartition("#")[0] for record in loaded.records}
    assert (report.records, report.used) == (5, len(rows))
    assert report.used + report.dropped_by_reason["not_drawn"] == report.rows_read == 10


def test_caps_by_source(tmp_path: Path) -> None:
    rows = [{**GOOD, "chosen": f"a{n}"} for n in range(10)]
    first, second = written(tmp_path, rows, "first.jsonl"), written(tmp_path, rows, "second.jsonl")
    loaded = load([first, second], caps={"second": 4})
    assert [source.used for source in loaded.sources] == [10, 4]
    with pytest.raises(DataError, match="caps names 'secnd', which is not a source; did you mean second"):
        load([first, second], caps={"secnd": 4})


def test_conversions_between_kinds(tmp_path: Path) -> None:
    path = written(tmp_path, [GOOD])
    (imitated,) = load_records(path, kind=Demonstration).records
    assert imitated.completion == (Message("assistant", "a"),)
    good, bad = load_records(path, kind=LabelledCompletion).records
    assert (good.id, good.desirable, good.completion[0].content) == ("pairs.jsonl:1#chosen", True, "a")
    assert (bad.id, bad.desirable, bad.completion[0].content) == ("pairs.jsonl:1#rejected", False, "b")
    (ranked,) = load_records(path, kind=Ranking).records
    assert [answer[0].content for answer in ranked.completions] == ["a", "b"]
    (asked,) = load_records(path, kind=Record).records
    assert (type(asked), asked.prompt) == (Record, (Message("user", "q"),))
    lists = written(tmp_path, [{"instruction": "q", "input": "", "output": ["a", "b", "c"]}], "lists.jsonl")
    (pair,) = load(lists).records
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("a", "c")
    labels = [{"prompt": "q", "completion": "a", "label": label} for label in (True, False, True)]
    loaded = load_records(written(tmp_path, labels, "labels.jsonl"), kind=Demonstration)
    assert (len(loaded.records), loaded.sources[0].dropped_by_reason) == (2, {"undesirable": 1})


def rated(scores: list[float], **ratings: Any) -> dict[str, Any]:
    notes = [{"honesty": {"Rating": str(n)}, "truthfulness": {"Rating": "N/A"}} for n in range(len(scores))]
    answers = [
        {"response": f"answer {n}", "overall_score": score, "annotations": notes[n]} for n, score in enumerate(scores)
    ]
    return {"instruction": "q", "completions": answers, **ratings}


def test_ratings_become_pairs_by_the_stated_rule(tmp_path: Path) -> None:
    path = written(tmp_path, [rated([5, 9, 7, 2]), rated([4, 4])])
    best_worst = load(path)
    (pair,) = best_worst.records
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("answer 1", "answer 3", 7.0)
    assert pair.dimensions == {"honesty": (1.0, 3.0)}
    assert best_worst.sources[0].dropped_by_reason == {"tie": 1}
    every = load(path, ratings="all_pairs", min_margin=3).records
    assert [(pair.id, pair.margin) for pair in every] == [
        ("pairs.jsonl:1#1>0", 4.0), ("pairs.jsonl:1#1>3", 7.0), ("pairs.jsonl:1#2>3", 5.0), ("pairs.jsonl:1#0>3", 3.0),
    ]  # fmt: skip
    drawn = {load(path, ratings="best_random", seed=seed).records[0].rejected[0].content for seed in range(20)}
    assert drawn == {"answer 0", "answer 2", "answer 3"}


def test_ratings_as_rankings_and_scores(tmp_path: Path) -> None:
    path = written(tmp_path, [rated([5, 9, 5, 2])])
    (ranked,) = load_records(path, kind=Ranking).records
    assert [answer[0].content for answer in ranked.completions] == ["answer 1", "answer 0", "answer 3"]
    scored = load_records(path, kind=ScoredCompletion).records
    assert [(record.id, record.score) for record in scored] == [
        ("pairs.jsonl:1#0", 0.5), ("pairs.jsonl:1#1", 0.9), ("pairs.jsonl:1#2", 0.5), ("pairs.jsonl:1#3", 0.2),
    ]  # fmt: skip


def test_scores_must_lie_between_0_and_1(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response": "a", "score": score} for score in (0, 0.5, 1, 1.5, -0.1, None, "x")]
    loaded = load_records(written(tmp_path, rows), kind=ScoredCompletion, max_dropped=1)
    assert [record.score for record in loaded.records] == [0, 0.5, 1]
    assert loaded.sources[0].dropped_by_reason == {"score_out_of_range": 2, "missing_score": 1, "not_a_number": 1}


def test_the_built_in_pairs() -> None:
    train, held_out = load("palate-demo"), load("palate-demo-heldout")
    assert not train.dropped
    assert not held_out.dropped
    assert {source.name for source in (*train.sources, *held_out.sources)} == {"palate-demo", "palate-demo-heldout"}
    asked = {record.prompt for record in train.records}
    assert not any(record.prompt in asked for record in held_out.records)
