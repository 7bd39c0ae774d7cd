"""Rows in which it is easy to take the wrong answer for the better one, or to train on half of what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.cli.dataset import dataset_request
from palate.data import LoadedData, load_records
from palate.data.convert import convert
from palate.errors import DataError
from palate.records import PreferencePair, Record

Row = dict[str, Any]


def loaded(folder: Path, rows: list[Row], **options: Any) -> LoadedData[PreferencePair]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_records(str(path), kind=PreferencePair, **options)


def sides(data: LoadedData[PreferencePair]) -> list[tuple[str, str]]:
    return [(pair.chosen[-1].content, pair.rejected[-1].content) for pair in data.records]


def two(first: str = "response_1", second: str = "response_2", **more: Any) -> list[Row]:
    """The first answer is the better one in the first row, the second in the second; `more` by row."""
    answers = [{first: "good 0", second: "bad 0"}, {first: "bad 1", second: "good 1"}]
    return [{"prompt": f"q{n}", **answers[n], **{name: values[n] for name, values in more.items()}} for n in range(2)]


RIGHT = [("good 0", "bad 0"), ("good 1", "bad 1")]


@pytest.mark.parametrize(
    "rows",
    [
        two("response_a", "response_b", chosen="AB", rejected="BA"),
        two(chosen=["response_1", "response_2"], rejected=["response_2", "response_1"]),
        two(chosen="12", rejected="21"),
        two("answer_0", "answer_1", chosen="01", rejected="10"),
        two(chosen=["first", "second"], rejected=["second", "first"]),
        two(chosen=["x", "y"], rejected=["y", "x"], model_1="xx", model_2="yy"),
        two(chosen=["x", "y"], rejected=["y", "x"], response_1_model="xx", response_2_model="yy"),
    ],
)
def test_chosen_names_the_answer_of_another_column(tmp_path: Path, rows: list[Row]) -> None:
    assert sides(loaded(tmp_path, rows)) == RIGHT


def test_an_instruction_and_a_label_in_chosen(tmp_path: Path) -> None:
    rows = [{"instruction": row.pop("prompt"), **row} for row in two(chosen="12", rejected="21")]
    assert sides(loaded(tmp_path, rows)) == RIGHT


def test_chosen_is_the_place_of_an_answer_as_text(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "responses": ["good 0", "bad 0"], "chosen": "0", "rejected": "1"},
        {"prompt": "q", "responses": ["bad 1", "good 1"], "chosen": "1", "rejected": "0"},
    ]
    assert sides(loaded(tmp_path, rows)) == RIGHT


def test_the_same_answer_is_chosen_and_rejected(tmp_path: Path) -> None:
    data = loaded(tmp_path, two(chosen="AB", rejected="AA"))
    assert sides(data) == RIGHT[1:]
    assert [(row.reason, row.detail) for row in data.dropped] == [
        ("bad_label", "response_1 is both chosen and rejected")
    ]


def test_chosen_is_a_text_beside_the_two_answers_it_was_taken_from(tmp_path: Path) -> None:
    assert sides(loaded(tmp_path, two(chosen=["B", "good 1"], rejected=["bad 0", "bad 1"])))[0] == ("B", "bad 0")


def test_a_model_that_no_column_of_an_answer_has_is_refused(tmp_path: Path) -> None:
    rows = two(chosen=["x", "y"], rejected=["y", "x"], models_compared=["x", "y"])
    with pytest.raises(DataError, match=r"chosen has the values x .1., y .1.; none of these names an answer"):
        loaded(tmp_path, rows)


@pytest.mark.parametrize("spelling", ["{}", "[[{}]]"])
def test_verdicts_of_five_levels(tmp_path: Path, spelling: str) -> None:
    verdicts = ["A>>B", "A>B", "A=B", "B>A", "B >> A"]
    rows = [
        {"prompt": "q", "response_a": f"a{n}", "response_b": f"b{n}", "verdict": spelling.format(verdict)}
        for n, verdict in enumerate(verdicts)
    ]
    data = loaded(tmp_path, rows)
    assert sides(data) == [("a0", "b0"), ("a1", "b1"), ("b3", "a3"), ("b4", "a4")]
    assert data.sources[0].dropped_by_reason == {"tie": 1}


@pytest.mark.parametrize("names", [("rank_1", "rank_2"), ("response_1_rank", "response_2_rank")])
def test_the_lower_of_two_ranks_is_the_better(tmp_path: Path, names: tuple[str, str]) -> None:
    assert sides(loaded(tmp_path, two(**{names[0]: [1, 2], names[1]: [2, 1]}))) == RIGHT


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("winner_index", 1),
        ("bestIdx", 1),
        ("preferred_response", "good"),
        ("reference", "good"),
        ("selected", "B"),
        ("answer_idx", 1),
        ("human_rank", [2, 1]),
        ("votes", [1, 9]),
        ("overall_scores", [1, 9]),
        ("is_correct", [False, True]),
        ("label", "B"),
    ],
)
def test_the_order_of_answers_is_no_ranking_beside_a_column_that_may_say_another(
    tmp_path: Path, column: str, value: Any
) -> None:
    rows = [{"prompt": f"q{n}", "responses": ["bad", "good"], column: value} for n in range(3)]
    with pytest.raises(DataError, match=f"{column} may say which is better, so their order is not taken") as caught:
        loaded(tmp_path, rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("column", "name"), [("winner_index", "best"), ("votes", "rewards")])
def test_the_columns_that_the_refusal_names_are_read(tmp_path: Path, column: str, name: str) -> None:
    value = {"winner_index": 1, "votes": [1, 9]}[column]
    rows = [{"prompt": f"q{n}", "responses": ["bad", "good"], column: value} for n in range(2)]
    rows.append({"prompt": "q", "responses": ["good", "bad"], column: 0 if value == 1 else [9, 1]})
    assert sides(loaded(tmp_path, rows, columns={name: column})) == [("good", "bad")] * 3


def test_a_ranking_by_order_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["good", "bad"], "source": "x", "row_index": n} for n in range(2)]
    data = loaded(tmp_path, rows)
    assert sides(data) == [("good", "bad")] * 2
    assert data.sources[0].labels == "the order of the answers: the first is the best (2)"


@pytest.mark.parametrize("column", ["image", "images", "video", "audio"])
def test_rows_with_more_than_text_are_refused(tmp_path: Path, column: str) -> None:
    rows = [{"prompt": "What is on it?", "chosen": "a", "rejected": "b", column: [{"path": "x"}]} for _ in range(2)]
    with pytest.raises(DataError, match=f"row_not_held 2.*has '{column}', which palate cannot represent"):
        loaded(tmp_path, rows)


@pytest.mark.parametrize("value", [None, "", [], {"bytes": None, "path": None}, [{"bytes": None}]])
def test_a_column_of_images_may_be_empty(tmp_path: Path, value: Any) -> None:
    assert sides(loaded(tmp_path, [{"prompt": "q", "chosen": "a", "rejected": "b", "images": value}])) == [("a", "b")]


@pytest.mark.parametrize("said", [{"score_chosen": 2, "score_rejected": 8}, {"margin": -1.5}])
def test_pairs_whose_scores_prefer_the_rejected_answer(tmp_path: Path, said: Row) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(3)]
    data = loaded(tmp_path, [*rows, {**rows[0], **said}])
    assert data.sources[0].labels == "the row's own scores prefer the rejected answer (1)"
    swapped = [{**row, **said} for row in rows]
    with pytest.raises(DataError, match="in 3 of 3 pairs the rejected answer has the higher score"):
        loaded(tmp_path, swapped)
    assert len(loaded(tmp_path, swapped, max_dropped=1).records) == 3


def test_prompts_of_a_conversation_are_the_same_converted_and_read(tmp_path: Path) -> None:
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, ["q", "a", "q2", "a2"])]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    convert(str(path), tmp_path / "prompts.jsonl", kind="prompts")
    read = [load_records(str(tmp_path / name), kind=Record).records for name in ("talk.jsonl", "prompts.jsonl")]
    assert [[turn.content for turn in records[0].prompt] for records in read] == [["q", "a", "q2"]] * 2


def test_a_system_prompt_is_trained_on(tmp_path: Path) -> None:
    data = loaded(tmp_path, [{"system_prompt": "Be brief.", "question": "q", "chosen": "a", "rejected": "b"}])
    assert [(turn.role, turn.content) for turn in data.records[0].prompt] == [("system", "Be brief."), ("user", "q")]
    assert data.sources[0].unknown_columns == ()


def test_a_system_prompt_that_columns_maps_is_what_they_say(tmp_path: Path) -> None:
    rows = [{"system_prompt": "q", "chosen": "a", "rejected": "b"}]
    data = loaded(tmp_path, rows, columns={"prompt": "system_prompt"})
    assert [(turn.role, turn.content) for turn in data.records[0].prompt] == [("user", "q")]


def test_whether_each_answer_is_correct_is_read_as_rewards(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["bad", "good"], "is_correct": [False, True]}]
    assert sides(loaded(tmp_path, rows, columns={"rewards": "is_correct"})) == [("good", "bad")]


def test_a_second_prompt_is_named_as_not_read(tmp_path: Path) -> None:
    data = loaded(
        tmp_path,
        [
            {"prompt": "p", "question": "q", "chosen": "a", "rejected": "b"},
            {"query": "p2", "chosen": "a", "rejected": "b"},
        ],
    )
    assert [pair.prompt[0].content for pair in data.records] == ["p", "p2"]
    assert data.sources[0].unknown_columns == ("question",)


def test_answers_that_are_numbers_are_not_taken_for_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but their values are not"):
        loaded(tmp_path, [{"prompt": "2+2", "chosen": 4, "rejected": 5}])


def test_a_label_of_the_command_line_may_have_an_equals_sign() -> None:
    assert dataset_request("x", label=["A==B=tie", "A+=first"]).labels == {"A==B": "tie", "A+": "first"}
    assert dataset_request("x", column=["prompt=a=b"]).columns == {"prompt": "a=b"}


def test_ranks_of_a_csv_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ranks.csv"
    path.write_text('prompt,responses,ranks\nq,"[""bad"", ""good""]","[2, 1]"\n', encoding="utf-8")
    assert sides(load_records(str(path), kind=PreferencePair)) == [("good", "bad")]


@pytest.mark.parametrize("yes", [1, 1.0, True, "True", "TRUE", "1"])
def test_the_winner_among_columns_may_be_a_truth_value(tmp_path: Path, yes: Any) -> None:
    no = {"True": "False", "TRUE": "FALSE", "1": "0"}[yes] if isinstance(yes, str) else type(yes)(0)
    rows = two("response_a", "response_b", winner_model_a=[yes, no], winner_model_b=[no, yes], winner_tie=[no, no])
    assert sides(loaded(tmp_path, rows)) == RIGHT


def test_one_label_of_three_values_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "label": n} for n, row in enumerate([*two(), two()[0]])]
    with pytest.raises(DataError, match="which answer each value means is not certain"):
        loaded(tmp_path, rows)


def test_files_of_a_folder_that_code_their_labels_in_two_ways(tmp_path: Path) -> None:
    for name, labels in (("a", (0, 1)), ("b", (1, 2))):
        rows = [{**row, "annotator1": label, "annotator2": label} for row, label in zip(two(), labels)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"in a\.jsonl, which means one thing by the labels of that file") as caught:
        load_records(str(tmp_path), kind=PreferencePair)
    assert "\n" not in str(caught.value)
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert sides(load_records(files, kind=PreferencePair)) == RIGHT * 2
    (tmp_path / "a.jsonl").unlink()
    assert sides(load_records(str(tmp_path), kind=PreferencePair)) == RIGHT


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (("response_0", "response_1"), ("model_1", "model_2")),
        (("response_0", "response_1"), ("Response 1", "Response 2")),
        (("response_0", "response_1"), ("model_1", "model_1")),
        (("response_1", "response_2"), ("response_0", "response_1")),
        (("response_1", "response_2"), ("[[Assistant 0]]", "tie")),
    ],
)
def test_numbers_in_words_that_are_counted_otherwise_than_the_answers(
    tmp_path: Path, answers: tuple[str, str], labels: tuple[str, str]
) -> None:
    with pytest.raises(DataError, match="means is not certain; set labels"):
        loaded(tmp_path, two(*answers, winner=labels))


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (("response_0", "response_1"), ("model_0", "model_1")),
        (("response_0", "response_1"), ("response_0", "response_1")),
        (("response_1", "response_2"), ("model_1", "Model 2")),
        (("answer_1", "answer_2"), ("answer_1", "option 2")),
    ],
)
def test_numbers_in_words_that_are_counted_as_the_answers(
    tmp_path: Path, answers: tuple[str, str], labels: tuple[str, str]
) -> None:
    assert sides(loaded(tmp_path, two(*answers, winner=labels))) == RIGHT
