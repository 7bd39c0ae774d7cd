"""What labels mean: the cases of ../shared/cases on labels, ranks and files, and siblings of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.data import LoadedData, load_records
from palate.errors import DataError
from palate.records import LabelledCompletion, PreferencePair, Ranking, SourceReport

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"

Sides = list[tuple[str, str]]
"""(chosen, rejected) of each pair."""


def case(name: str) -> str:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"../shared/cases/{name} is not there")
    return str(path)


def case_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(case(name)).read_text(encoding="utf-8").splitlines()]


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(path: str, **options: Any) -> LoadedData[PreferencePair]:
    return load_records(path, kind=PreferencePair, **options)


def sides(loaded: LoadedData[PreferencePair]) -> Sides:
    return [(pair.chosen[-1].content, pair.rejected[-1].content) for pair in loaded.records]


def report(loaded: LoadedData[Any]) -> SourceReport:
    (only,) = loaded.sources
    return only


def answered(label: Any, name: str = "label", **more: Any) -> dict[str, Any]:
    """A row with two answers, A and B, of which a label says which is better."""
    return {"prompt": "q", "response_1": "A", "response_2": "B", name: label, **more}


A, B = ("A", "B"), ("B", "A")


# ---- the cases


def test_labels_that_count_from_zero() -> None:
    loaded = load(case("zero_based.jsonl"))
    expected = [
        (f"FIRST {n}", f"SECOND {n}") if row["label"] == 0 else (f"SECOND {n}", f"FIRST {n}")
        for n, row in enumerate(case_rows("zero_based.jsonl"))
    ]
    assert sides(loaded) == expected
    assert report(loaded).labels == "label: 0 → response_1 (6), 1 → response_2 (6)"


def test_shp_prefers_a_where_labels_is_1_and_lists_rows_whose_scores_say_otherwise() -> None:
    loaded = load(case("shp.jsonl"))
    # The scores of the case are 5 and 3 in every row, also where the label prefers B: those six are not guessed.
    rows = case_rows("shp.jsonl")
    assert sides(loaded) == [(f"FIRST {n}", f"SECOND {n}") for n, row in enumerate(rows) if row["labels"] == 1]
    assert report(loaded).dropped_by_reason == {"scores_disagree": 6}
    assert loaded.dropped[0].detail == "labels prefers human_ref_B, the ratings 5 and 3 do not"
    assert report(loaded).labels == "labels: 0 → human_ref_B (6), 1 → human_ref_A (6)"


@pytest.mark.parametrize(
    ("name", "column", "answers"),
    [
        ("helpsteer2.jsonl", "preference_strength", ("response_1", "response_2")),
        ("helpsteer3.jsonl", "overall_preference", ("response1", "response2")),
    ],
)
def test_strengths_of_helpsteer(name: str, column: str, answers: tuple[str, str]) -> None:
    loaded = load(case(name))
    rows = [(n, row[column]) for n, row in enumerate(case_rows(name)) if row[column] != 0]
    assert sides(loaded) == [
        (f"FIRST {n}", f"SECOND {n}") if strength < 0 else (f"SECOND {n}", f"FIRST {n}") for n, strength in rows
    ]
    assert [pair.margin for pair in loaded.records] == [abs(strength) for _, strength in rows]
    assert report(loaded).dropped_by_reason == {"tie": 1}
    assert report(loaded).labels == f"{column}: -3 … -1 → {answers[0]} (4), 0 → tie (1), 1 … 3 → {answers[1]} (7)"


def test_arena_votes_on_conversations_of_several_turns_are_refused_row_by_row() -> None:
    # Both turns of each conversation differ; what is compared is not one answer, as with transcripts of HH.
    with pytest.raises(DataError, match=r"no row can be used: diverges 8 \(first: arena55k.jsonl:1\)"):
        load(case("arena55k.jsonl"))


def test_the_first_turn_of_the_arena_case_is_a_vote(tmp_path: Path) -> None:
    rows = case_rows("arena55k.jsonl")
    for row in rows:
        for name in ("prompt", "response_a", "response_b"):
            row[name] = json.dumps(json.loads(row[name])[:1])
    loaded = load(written(tmp_path, rows))
    assert sides(loaded) == [
        (f"Green {n}.", f"No {n}.") if row["winner_model_a"] else (f"No {n}.", f"Green {n}.")
        for n, row in enumerate(rows)
    ]
    assert [pair.prompt[0].content for pair in loaded.records] == [f"Name colour {n}." for n in range(8)]
    assert report(loaded).labels == "winner: model_a → response_a (4), model_b → response_b (4)"


@pytest.mark.parametrize("name", ["nectar.jsonl", "nemorl.jsonl"])
def test_ranks_from_zero_or_one(name: str) -> None:
    loaded = load(case(name))
    assert sides(loaded) == [(f"Best {n}", f"Worst {n}") for n in range(6)]
    assert [pair.prompt[0].content for pair in loaded.records] == [f"Name colour {n}." for n in range(6)]


def test_nectar_as_rankings() -> None:
    first = load_records(case("nectar.jsonl"), kind=Ranking).records[0]
    assert [answer[0].content for answer in first.completions] == ["Best 0", "Middle 0", "Worst 0"]


def test_every_chosen_answer_with_every_rejected_one() -> None:
    loaded = load(case("promptfoo.jsonl"))
    assert sides(loaded) == [
        pair for n in range(6) for pair in ((f"Green {n}", f"No {n}"), (f"Green {n}", f"Never {n}"))
    ]
    assert [pair.id for pair in loaded.records][:2] == ["promptfoo.jsonl:1#1", "promptfoo.jsonl:1#2"]
    assert (report(loaded).used, report(loaded).records) == (6, 12)


def test_the_rejected_response_of_ms_swift() -> None:
    assert sides(load(case("swift_rejected.jsonl"))) == [(f"Green {n}.", f"No {n}.") for n in range(6)]


def test_a_pairwise_export_of_label_studio() -> None:
    loaded = load(case("labelstudio.json"))
    assert sides(loaded) == [
        (f"LEFT {n}", f"RIGHT {n}") if n % 2 == 0 else (f"RIGHT {n}", f"LEFT {n}") for n in range(6)
    ]
    assert report(loaded).labels == "selected: left → answer1 (3), right → answer2 (3)"


def test_a_file_with_semicolons() -> None:
    loaded = load(case("semicolon.csv"))
    assert sides(loaded) == [(f"Green, {n}", f"No {n}") for n in range(4)]
    assert loaded.records[0].prompt[0].content == "Name colour 0."


def test_a_key_that_occurs_twice_is_named() -> None:
    path = case("dupkeys.jsonl")
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: none of its first rows can be read; dupkeys.jsonl:1: the key 'chosen' occurs twice in one object; "
        "remove or rename one"
    )


# ---- siblings: codings of two answers

CODINGS: list[tuple[str, list[dict[str, Any]], Sides, str]] = [
    ("1/2", [answered(1), answered(2)], [A, B], "label: 1 → response_1 (1), 2 → response_2 (1)"),
    ("text", [answered("1"), answered("2")], [A, B], "label: 1 → response_1 (1), 2 → response_2 (1)"),
    ("-1/+1", [answered(-1), answered(1)], [A, B], "label: -1 → response_1 (1), 1 → response_2 (1)"),
    ("-1/0/+1", [answered(-1), answered(0), answered(1)], [A, B],
     "label: -1 → response_1 (1), 0 → tie (1), 1 → response_2 (1)"),
    ("1 … 2", [answered(1.2), answered(1.9), answered(1.5)], [A, B],
     "label: 1.2 → response_1 (1), 1.5 → tie (1), 1.9 → response_2 (1)"),
    ("words", [answered("response_1", "winner"), answered("Response 2", "winner"), answered("tie (bothbad)", "winner")],
     [A, B], "winner: response_1 → response_1 (1), response_2 → response_2 (1), tie_bothbad → tie (1)"),
    ("the answer itself", [{"prompt": "q", "response_1": "It is.", "response_2": "Is it?", "chosen": chosen}
      for chosen in ("It is.", "Is it?")], [("It is.", "Is it?"), ("Is it?", "It is.")],
     "chosen: first → response_1 (1), second → response_2 (1)"),
    ("a place whose name is an answer too", [{"prompt": "q", "response_1": "2", "response_2": "1", "label": label}
      for label in ("1", "2")], [("2", "1"), ("1", "2")], "label: 1 → response_1 (1), 2 → response_2 (1)"),
    ("columns from 0", [{"prompt": "q", "answer_0": "A", "answer_1": "B", "label": label} for label in (0, 1)], [A, B],
     "label: 0 → answer_0 (1), 1 → answer_1 (1)"),
    ("letters", [{"prompt": "q", "response_a": "A", "response_b": "B", "winner": label} for label in ("A", "model_b")],
     [A, B], "winner: a → response_a (1), model_b → response_b (1)"),
    ("names of models",
     [{"prompt": "q", "response_a": "A", "response_b": "B", "model_a": "x", "model_b": "y", "winner": "y"}],
     [B], "winner: model_b → response_b (1)"),
    ("strengths", [answered(label) for label in (-2, -1, 1, 2)], [A, A, B, B],
     "label: -2 → response_1 (1), -1 → response_1 (1), 1 → response_2 (1), 2 → response_2 (1)"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected", "line"), [pytest.param(*rest, id=name) for name, *rest in CODINGS])
def test_codings_that_are_certain(tmp_path: Path, rows: list[dict[str, Any]], expected: Sides, line: str) -> None:
    loaded = load(written(tmp_path, rows))
    assert sides(loaded) == expected
    assert report(loaded).labels == line


LETTERED = {"prompt": "q", "response_a": "A", "response_b": "B"}

REFUSED: list[tuple[str, list[dict[str, Any]], str]] = [
    ("only ones", [answered(1)] * 3,
     r"label has the values 1 \(3\); one value alone does not say how the answers are counted"),
    ("only zeros", [answered(0)] * 2, r"label has the values 0 \(2\); one value alone"),
    ("1/2/3", [answered(label) for label in (1, 2, 3)],
     r"has the values 1 \(1\), 2 \(1\), 3 \(1\); which answer each value"),
    ("0/1 beside letters", [{**LETTERED, "label": label} for label in (0, 1)],
     r"label has the values 0 \(1\), 1 \(1\); which answer each value means is not certain; set labels: \{0: …, 1: …\} "
     r"\(--label VALUE=… for palate data\) with response_a or response_b or tie or none for each value"),
    ("-1/+1 beside letters", [{**LETTERED, "label": label} for label in (-1, 1)], "is not certain"),
    ("lopsided strengths", [answered(label) for label in (-1, 1, 2)], "is not certain"),
    ("truth values", [answered(label) for label in (True, False)], "none of these names an answer"),
    ("names nobody knows", [answered(label, "winner") for label in ("x", "y")], "none of these names an answer"),
    ("strengths out of range", [answered(label, "preference_strength") for label in (-100, 1, 2)],
     "a strength is -3 … 3, not -100"),
    ("columns from 0 with 1/2",
     [{"prompt": "q", "answer_0": "A", "answer_1": "B", "label": label} for label in (1, 2)], "is not certain"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "match"), [pytest.param(*rest, id=name) for name, *rest in REFUSED])
def test_codings_that_are_not_certain_are_refused_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], match: str
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(written(tmp_path, rows))
    assert "\n" not in str(caught.value)
    assert "labels: {" in str(caught.value)


def test_the_values_of_all_rows_decide_not_only_the_first(tmp_path: Path) -> None:
    """The first 300 rows hold 1 alone; the last one says that the answers are counted from 0."""
    path = written(tmp_path, [answered(1)] * 300 + [answered(0)])
    loaded = load(path, max_samples=250)
    assert sides(loaded) == [B] * 250
    assert report(loaded).labels == "label: 1 → response_2 (250)"


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [
        ([answered(0), answered(1)], {"0": "response_2", "1": "response_1"}, [B, A]),
        ([answered(1), answered(1)], {"1": "first"}, [A, A]),
        ([answered(1), answered(2), answered(3)], {"1": "first", "2": "second", "3": "tie"}, [A, B]),
        ([answered(True), answered(False)], {"true": "response_1", "false": "response_2"}, [A, B]),
        ([answered("x"), answered("y")], {"x": "response_1", "y": "response_2"}, [A, B]),
        ([answered(n, "preference_strength") for n in (-100, -3, 3)], {"-100": "none"}, [A, B]),
        ([{**LETTERED, "label": label} for label in (0, 1)], {"1": "response_a", "0": "response_b"}, [B, A]),
    ],
)
def test_labels_say_what_values_mean(
    tmp_path: Path, rows: list[dict[str, Any]], labels: dict[str, str], expected: Sides
) -> None:
    loaded = load(written(tmp_path, rows), labels=labels, max_dropped=1)
    assert sides(loaded) == expected


def test_an_unknown_meaning(tmp_path: Path) -> None:
    path = written(tmp_path, [answered(0), answered(1)])
    with pytest.raises(
        DataError, match=r"labels says that 0 means 'left one'; it can mean response_1, response_2, tie"
    ):
        load(path, labels={"0": "left one", "1": "second"})
    with pytest.raises(DataError, match="one value alone"):  # labels that leave a value open
        load(path, labels={"0": "first"})


def test_a_column_map_leads_to_no_reversed_reading(tmp_path: Path) -> None:
    """`columns: {chosen: …}` on a label that counts from 0 reads it as such; on lettered answers it is refused."""
    rows = [{"ask": "q", "one": "A", "two": "B", "pref": label} for label in (0, 1)]
    columns = {"prompt": "ask", "response_1": "one", "response_2": "two", "chosen": "pref"}
    with pytest.raises(DataError, match=r"pref has the values 0 \(1\), 1 \(1\).*with one or two or tie or none"):
        load(written(tmp_path, rows), columns=columns)
    shp = [{"history": "q", "human_ref_A": "A", "human_ref_B": "B", "labels": label} for label in (0, 1)]
    columns = {"prompt": "history", "answer_1": "human_ref_A", "answer_2": "human_ref_B", "chosen": "labels"}
    with pytest.raises(
        DataError, match=r"labels has the values 0 \(1\), 1 \(1\); which answer each value means is not certain"
    ):
        load(written(tmp_path, shp), columns=columns)
    columns = {"prompt": "history", "chosen": "human_ref_A", "rejected": "human_ref_B"}
    with pytest.raises(DataError, match="columns maps chosen and rejected to human_ref_A and human_ref_B, but labels"):
        load(written(tmp_path, shp), columns=columns)
    # A column of that name may say something else; then it gets another name, and the map is taken as it is.
    assert sides(load(written(tmp_path, shp), columns={**columns, "topic": "labels"})) == [A, A]
    topics = [{**row, "labels": "baking"} for row in shp]
    assert sides(load(written(tmp_path, topics), columns=columns)) == [A, A]


def test_an_explanation_is_no_label(tmp_path: Path) -> None:
    why = "I would rather have the second one, because it answers the question."
    assert sides(load(written(tmp_path, [answered(0, preference=why), answered(1, preference=why)]))) == [A, B]


def test_the_hint_for_an_unknown_label_asks_for_the_label(tmp_path: Path) -> None:
    rows = [answered(label, "mine") for label in (0, 1)]
    with pytest.raises(DataError, match=r"lack 'label' of .*columns: \{label: YOUR_COLUMN\}"):
        load(written(tmp_path, rows))
    assert sides(load(written(tmp_path, rows), columns={"label": "mine"})) == [A, B]


# ---- siblings: ratings and votes


@pytest.mark.parametrize(
    "ratings",
    [
        {"score_1": 2, "score_2": 5},
        {"rating_a": "2", "rating_b": "5"},
        {"score_A": 2, "score_B": 5},
        {"scores": [2, 5]},
        {"ratings": "[2, 5]"},
        {"response_1_score": 2, "response_2_score": 5},
        {"overall_rating_1": 2, "overall_rating_2": 5},
    ],
)
def test_two_ratings_in_any_spelling(tmp_path: Path, ratings: dict[str, Any]) -> None:
    row = {"prompt": "q", "response_1": "A", "response_2": "B", **ratings}
    loaded = load(written(tmp_path, [row]))
    assert sides(loaded) == [B]
    assert loaded.records[0].margin == 3
    assert report(loaded).unknown_columns == ()


def test_equal_ratings_are_a_tie(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response_1": "A", "response_2": "B", "score_1": 1, "score_2": score} for score in (1, 0)]
    loaded = load(written(tmp_path, rows))
    assert (sides(loaded), report(loaded).dropped_by_reason) == ([A], {"tie": 1})


def test_a_label_and_ratings_that_agree(tmp_path: Path) -> None:
    rows = [answered(0, score_1=3, score_2=1), answered(1, score_1=1, score_2=4)]
    loaded = load(written(tmp_path, rows))
    assert (sides(loaded), [pair.margin for pair in loaded.records]) == ([A, B], [2, 3])


def voted(*votes: Any) -> dict[str, Any]:
    return {
        "instruction": "q", "input": "i", "response1": "A", "response2": "B",
        **{f"annotator{n}": vote for n, vote in enumerate(votes, 1)},
    }  # fmt: skip


def test_several_annotators_decide_by_majority(tmp_path: Path) -> None:
    rows = [voted(1, 1, 2), voted(2, 2, 2), voted(0, 0, 1), voted(1, 2, 0), voted(None, 2, None)]
    loaded = load(written(tmp_path, rows))
    assert sides(loaded) == [A, B, A, B]
    assert [pair.margin for pair in loaded.records] == [1, 3, 1, 1]
    assert loaded.records[0].prompt[0].content == "q\ni"
    assert report(loaded).dropped_by_reason == {"tie": 1}
    assert loaded.dropped[0].detail == "1 vote for each answer, 1 for neither"


def test_an_arena_set_with_ties_says_so_and_trains_on_the_others(tmp_path: Path) -> None:
    def votes(ties: int) -> str:
        winners = ["tie (bothbad)", *["tie"] * (ties - 1), *["model_a"] * (10 - ties)]
        talks = {name: [{"role": "user", "content": "q"}, {"role": "assistant", "content": name}] for name in "AB"}
        rows = [{"conversation_a": talks["A"], "conversation_b": talks["B"], "winner": winner} for winner in winners]
        return written(tmp_path, rows)

    loaded = load(votes(3))
    assert (sides(loaded), report(loaded).dropped_by_reason) == ([A] * 7, {"tie": 3})
    assert report(loaded).labels == "winner: model_a → conversation_a (7), tie → tie (2), tie_bothbad → tie (1)"
    with pytest.raises(DataError, match=r"6 of 10 rows cannot be used \(60%, allowed 50%\): tie 6 .*max_dropped: 0.6"):
        load(votes(6))
    assert len(load(votes(6), max_dropped=0.6).records) == 4


def test_annotations_of_label_studio(tmp_path: Path) -> None:
    def task(*selected: str | None, cancelled: str | None = None) -> dict[str, Any]:
        done = [{"result": [{"type": "pairwise", "value": {"selected": side}}]} for side in selected]
        left_out = [{"result": [{"value": {"selected": cancelled}}], "was_cancelled": True}] if cancelled else []
        return {"data": {"prompt": "q", "answer1": "A", "answer2": "B"}, "annotations": [*left_out, *done]}

    rows = [
        task("left", "left", "right"),
        task("right", cancelled="left"),
        task("left", "right"),
        task(cancelled="left"),
    ]
    loaded = load(written(tmp_path, rows))
    assert sides(loaded) == [A, B]
    assert report(loaded).dropped_by_reason == {"tie": 1, "no_label": 1}


def test_numbers_that_name_the_better_of_two_answers(tmp_path: Path) -> None:
    def rows(*numbers: int | None) -> str:
        return written(
            tmp_path,
            [{"prompt": "q", "response_0": "A", "response_1": "B", "better_response_id": number} for number in numbers],
        )

    loaded = load(rows(1, 0, 1, None))
    assert (sides(loaded), report(loaded).dropped_by_reason) == ([B, A, B], {"no_label": 1})
    line = "null → no label (1), 0 → response_0 (1), 1 → response_1 (2)"
    assert sorted(report(loaded).labels.partition(": ")[2].split(", ")) == sorted(line.split(", "))
    assert sides(load(rows(1, 1))) == [B, B]
    with pytest.raises(
        DataError, match=r"has the values 1 \(2\), 2 \(1\); 2 is none of 0, 1; set labels: \{1: …, 2: …\}"
    ):
        load(rows(1, 2, 1))
    named = {"1": "response_0", "2": "response_1"}
    assert sides(load(rows(1, 2, 1), labels=named)) == [A, B, A]


# ---- siblings: lists


@pytest.mark.parametrize(
    ("best", "rows"),
    [
        ("zero", [{"best": 0}, {"best": 2}]),
        ("one", [{"best": 1}, {"best": 3}]),
    ],
)
def test_the_index_of_the_best_answer(tmp_path: Path, best: str, rows: list[dict[str, Any]]) -> None:
    loaded = load(written(tmp_path, [{"prompt": "q", "answers": ["A", "B", "C"], **row} for row in rows]))
    assert sides(loaded) == [("A", "B"), ("A", "C"), ("C", "A"), ("C", "B")], best
    assert report(loaded).records == 4


def test_best_and_worst(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "responses": ["A", "B", "C"], "best": best, "worst": worst} for best, worst in ((1, 3), (2, 1))
    ]
    assert sides(load(written(tmp_path, rows))) == [("A", "C"), ("B", "A")]


def test_chosen_and_rejected_as_indices(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["A", "B"], "chosen": best, "rejected": 1 - best} for best in (0, 1)]
    loaded = load(written(tmp_path, rows))
    assert sides(loaded) == [A, B]
    assert report(loaded).labels == "chosen and rejected: 0 → answer_1 (2), 1 → answer_2 (2)"


def test_an_index_that_could_count_from_0_or_1(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "answers": ["A", "B", "C"], "best": best} for best in (1, 2)]
    path = written(tmp_path, rows)
    with pytest.raises(DataError, match=r"counted from 0 or from 1 is not certain; set labels: .1: …, 2: ….*answer_1"):
        load(path)
    loaded = load(path, labels={"1": "answer_1"})
    assert sides(loaded) == [("A", "B"), ("A", "C"), ("B", "A"), ("B", "C")]


def test_ranks_that_are_equal_or_missing(tmp_path: Path) -> None:
    answers = [("A", 1), ("B", 1), ("C", 2), ("D", None)]
    rows = [{"prompt": "q", "answers": [{"answer": text, "rank": rank} for text, rank in answers]}]
    loaded = load_records(written(tmp_path, rows), kind=Ranking)
    assert [answer[0].content for answer in loaded.records[0].completions] == ["A", "C"]
    assert report(loaded).notices == {"equal_rank": 1, "unranked_answer": 1}


def test_ranks_and_scores_that_disagree(tmp_path: Path) -> None:
    answers = [{"answer": "A", "rank": 1, "score": 2}, {"answer": "B", "rank": 2, "score": 9}]
    with pytest.raises(DataError, match=r"scores_disagree 1.*the best rank has the score 2, the worst 9"):
        load(written(tmp_path, [{"prompt": "q", "answers": answers}]))


def test_a_list_whose_other_columns_may_say_which_is_best_is_not_taken_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completions": ["A", "B"], "ranking": [1, 0]}]
    with pytest.raises(DataError) as refused:
        load(written(tmp_path, rows))
    # A rank under the name of rewards would be read in reverse.
    assert "columns: {rewards: YOUR_COLUMN}" not in str(refused.value)


# ---- siblings: one answer with a label


def one(label: Any) -> dict[str, Any]:
    return {"prompt": "q", "completion": "a", "label": label}


@pytest.mark.parametrize(
    ("values", "expected", "line"),
    [
        ((1, 0), [True, False], "label: 0 → undesirable (1), 1 → desirable (1)"),
        ((1, -1), [True, False], "label: -1 → undesirable (1), 1 → desirable (1)"),
        ((True, False), [True, False], "label: false → undesirable (1), true → desirable (1)"),
        (("yes", "no"), [True, False], "label: no → undesirable (1), yes → desirable (1)"),
        ((1, 0, -1), [True, False], "label: -1 → undesirable (1), 0 → tie (1), 1 → desirable (1)"),
        ((1, 1), [True, True], "label: 1 → desirable (2)"),
    ],
)
def test_labels_of_one_answer(tmp_path: Path, values: tuple[Any, ...], expected: list[bool], line: str) -> None:
    loaded = load_records(written(tmp_path, [one(value) for value in values]), kind=LabelledCompletion)
    assert [record.desirable for record in loaded.records] == expected
    assert report(loaded).labels == line


def test_labels_of_one_answer_that_are_not_certain(tmp_path: Path) -> None:
    path = written(tmp_path, [one(1), one(2)])
    with pytest.raises(
        DataError, match=r"label has the values 1 \(1\), 2 \(1\); 2 is none of 0, 1; set labels: \{1: …, 2: …\}"
    ):
        load_records(path, kind=LabelledCompletion)
    loaded = load_records(path, kind=LabelledCompletion, labels={"1": "undesirable", "2": "desirable"})
    assert [record.desirable for record in loaded.records] == [False, True]
    stars = written(tmp_path, [one(value) for value in (1, 2, 3, 4, 5)])
    with pytest.raises(DataError, match=r"but label has the values 1 \(1\), 2 \(1\).*desirable or undesirable"):
        load_records(stars, kind=LabelledCompletion)


# ---- siblings: files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tab.csv", "prompt\tchosen\trejected\nq\ta, b\tc\n"),
        ("bar.csv", "prompt|chosen|rejected\nq|a, b|c\n"),
        ("excel.csv", "sep=;\nprompt;chosen;rejected\nq;a, b;c\n"),
        ("comma.tsv", 'prompt,chosen,rejected\nq,"a, b",c\n'),
        ("mark.csv", "\ufeffprompt;chosen;rejected\r\nq;a, b;c\r\n"),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert sides(load(str(path))) == [("a, b", "c")]
