"""MT-Bench: its files, what a judge is sent, and how grades are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks.benchmark import refuse_repeated
from palate.evaluation.benchmarks.judged.benchmark import JudgedData
from palate.evaluation.benchmarks.judged.grades import check_grader, read_rating
from palate.evaluation.benchmarks.judged.pairs import joined, split
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.benchmarks.suite.mtbench import WRONG, TurnScores, grading, own_judge, read
from palate.feedback.judges.load import load_judge
from palate.feedback.judges.scores import ScoreJudge
from palate.records import Answer, Message, Messages
from runs import write_rows

REAL = ("mt_bench_question.jsonl", "mt_bench_reference_gpt4.jsonl", "mt_bench_judge_prompts.jsonl")


@pytest.fixture
def real(shared_data: Callable[[str], Path]) -> Callable[..., JudgedData]:
    """The published files with these references."""
    files = [read_file(shared_data(f"benchmark/{name}")) for name in REAL]
    return lambda references="all": read(files, JudgeOptions(references=references))


def test_the_published_files(real: Callable[..., JudgedData]) -> None:
    data = real()
    assert Counter(question.category for question in data.questions) == dict.fromkeys(
        ["writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"], 10
    )
    assert len(data.prompts) == 8
    temperatures = {question.category: question.temperature for question in data.questions}
    assert {name for name, heat in temperatures.items() if heat == 0} == {"reasoning", "math", "coding", "extraction"}
    with_reference = [question.id for question in data.questions if question.references]
    assert with_reference == [str(number) for number in range(101, 131)]
    assert "13 of the reference answers" in data.notes[0]
    assert "104" in data.notes[0]


def test_references_can_be_switched_off(real: Callable[..., JudgedData]) -> None:
    checked = {question.id for question in real("checked").questions if question.references}
    assert len(checked) == 17
    assert not checked & WRONG
    assert not any(question.references for question in real("none").questions)
    assert real("none").notes == ()


def test_what_the_judge_is_sent(real: Callable[..., JudgedData]) -> None:
    data = real()
    plain = next(one for one in data.questions if one.id == "81")
    system, user = grading(plain, ["Aloha {x}."], data)
    assert system.content == "You are a helpful assistant."
    assert "[The Start of Assistant's Answer]\nAloha {x}.\n" in user.content  # braces of an answer stay
    assert plain.turns[0] in user.content
    assert plain.turns[1] not in user.content
    maths = next(one for one in data.questions if one.id == "112")
    system, user = grading(maths, ["first answer", "second answer"], data)
    for text in (*maths.turns, *maths.references, "first answer", "second answer"):
        assert text in user.content
    assert "reference answer" in system.content
    # Without a reference it is the general question.
    bare = next(one for one in real("none").questions if one.id == "112")
    assert "reference" not in "".join(message.content for message in grading(bare, ["a", "b"], data)).lower()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Fine. Rating: [[7]]", 7.0),
        ("[[8.5]] and later [[2]]", 8.5),
        ("Rating: [6]", 6.0),
        ("Rating: 7", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ("", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    grade = read_rating(text)
    assert grade.value == value
    assert value is not None or grade.reason.startswith(("no rating", "the rating"))


def question(name: int, category: str = "math") -> dict[str, Any]:
    return {"question_id": name, "category": category, "turns": [f"q{name}", "and then?"]}


def reference(name: int) -> dict[str, Any]:
    return {"question_id": name, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["r1", "r2"]}]}


def test_partial_and_damaged_files(tmp_path: Path) -> None:
    def data(rows: list[dict[str, Any]], references: str = "all") -> JudgedData:
        return read([read_file(write_rows(tmp_path / "x.jsonl", rows))], JudgeOptions(references=references))  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r"questions without a reference answer: 1, first 102; .*--references none"):
        data([question(101), question(102), reference(101)])
    assert len(data([question(102)], "none").questions) == 1
    # 104 may lack its reference with `checked`, because it is a wrong one; 101 may not.
    assert data([question(104), question(101), reference(101)], "checked").notes[0].startswith("the judge sees no")
    with pytest.raises(DataError, match="first 101"):
        data([question(104), question(101), reference(104)], "checked")
    with pytest.raises(DataError, match=r"row 3: a second reference answer to question 101"):
        data([question(101), reference(101), reference(101)])
    with pytest.raises(DataError, match=r"row 1: turns has 1 texts, 2 are needed"):
        data([{**question(101), "turns": ["q"]}], "none")
    prompt = {"name": "single-v1", "system_prompt": "s", "prompt_template": "{question} {anser}"}
    with pytest.raises(DataError, match=r"row 1: \{anser\} is not a placeholder"):
        data([prompt])
    with pytest.raises(DataError, match=r"row 2: has the id 101 of .*row 1 again; remove one of them"):
        refuse_repeated(data([question(101), question(101)], "none").questions)
    with pytest.raises(DataError, match="no questions of MT-Bench"):
        data([reference(101)])


def test_a_score_function_sees_each_models_own_first_answer() -> None:
    seen: list[tuple[list[str], str]] = []

    def score(prompts: list[Messages], completions: list[str]) -> list[float]:
        seen.extend(([turn.content for turn in prompt], text) for prompt, text in zip(prompts, completions))
        return [float(len(text)) for text in completions]

    judge = own_judge(ScoreJudge("f", score), JudgedData([]))
    assert isinstance(judge, TurnScores)
    a, b = (joined([Answer(text, "stop") for text in texts]).text for texts in (["a1", "long a2"], ["b1\x1e", "b2"]))
    turns = (Message("user", "q1"), Message("user", "q2"))
    [first] = judge.compare([turns[:1]], ["a1"], ["b1!"])
    [second] = judge.compare([turns], [a], [b])
    assert (first.outcome, second.outcome) == ("right", "left")
    assert seen == [(["q1"], "a1"), (["q1"], "b1!"), (["q1", "a1", "q2"], "long a2"), (["q1", "b1 ", "q2"], "b2")]
    assert split(b, 2) == ["b1 ", "b2"]


def test_a_reward_model_gives_no_grade() -> None:
    def score(prompts: list[Messages], completions: list[str]) -> list[float]:
        return [0.0] * len(completions)

    check_grader(ScoreJudge("f", score))
    with pytest.raises(
        UsageError, match=r"rm: a reward model gives no grade from 1 to 10; name openai:MODEL or a file.py"
    ):
        check_grader(ScoreJudge("rm", score, log_odds=True))
    with pytest.raises(UsageError, match="length:longer: this rule gives no grade from 1 to 10"):
        check_grader(load_judge("length:longer"))


def test_prompts_are_needed_by_a_chat_model(tmp_path: Path) -> None:
    from palate.feedback.judges.load import load_judge

    path = write_rows(tmp_path / "q.jsonl", [question(81, "writing")])
    with pytest.raises(DataError, match=r"no question to the judge named single-v1, .*give judge_prompts.jsonl"):
        read([read_file(path)], JudgeOptions(judge=load_judge("openai:m@http://127.0.0.1:1/v1")))
