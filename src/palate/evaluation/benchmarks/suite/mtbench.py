"""MT-Bench (2306.05685): 80 questions of two turns in 8 categories, graded from 1 to 10 or compared by a chat model.

The files are FastChat's (`llm_judge`): questions, reference answers, and the questions to the judge. People checked the
30 reference answers and found an error in 13 (FastChat pull request 3158); `WRONG` names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks.benchmark import Metric
from palate.evaluation.benchmarks.judged.benchmark import (
    JudgedBenchmark,
    JudgedData,
    PublishedPrompt,
    Question,
    RecordedAnswer,
)
from palate.evaluation.benchmarks.judged.pairs import split
from palate.evaluation.benchmarks.judged.prompt_judge import PromptJudge
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubFiles
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.scores import ScoreJudge
from palate.records import Columns, Judge, Message, Messages, Verdict

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Of the answers; 0 in the other categories."""
WITH_REFERENCE = ("math", "reasoning", "coding")
WRONG = frozenset(map(str, (104, 105, 109, 111, 113, 114, 120, 122, 124, 125, 126, 128, 130)))
"""Questions whose reference answer is wrong in at least one turn, in the order of the file."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TEXTS = ("question", "answer", "answer_a", "answer_b")
_KNOWN = {*_TEXTS, *(f"{name}_{turn}" for name in (*_TEXTS, "ref_answer") for turn in (1, 2))}
_NAMES = [
    f"{kind}{turn}"
    for kind in ("single-v1", "single-math-v1", "pair-v2", "pair-math-v1")
    for turn in ("", "-multi-turn")
]
_VERDICTS = {"A": Verdict("left"), "B": Verdict("right"), "C": Verdict("tie")}


def read(files: Sequence[DataFile], judging: JudgeOptions) -> JudgedData:
    """Questions (`turns`), reference answers (`choices`) and questions to the judge (`prompt_template`)."""
    rows = [row for file in files for row in file.rows]
    prompts = {row.text("name"): _prompt(row) for row in rows if row.has("prompt_template")}
    missing = [name for name in _NAMES if name not in prompts]
    names = ", ".join(file.name for file in files)
    if missing and isinstance(judging.judge, ApiJudge):
        raise DataError(
            f"{names}: no question to the judge named {', '.join(missing)}; give judge_prompts.jsonl and "
            "mt_bench/reference_answer/gpt-4.jsonl of fastchat/llm_judge/data (lm-sys/FastChat) with --data"
        )
    references: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row.has("choices"):
            found = recorded(row)
            if found.key in references:
                raise DataError(
                    f"{row.where}: a second reference answer to question {found.key}; give one file of them"
                )
            references[found.key] = found.turns
    if judging.references == "none":
        references = {}
    elif judging.references == "checked":
        references = {name: turns for name, turns in references.items() if name not in WRONG}
    questions = [_question(row, references) for row in rows if row.has("turns")]
    if not questions:
        raise DataError(f"{names}: no questions of MT-Bench; they are rows with question_id, category and turns")
    without = [one for one in questions if one.category in WITH_REFERENCE and not one.references]
    left_out = [one.id for one in without if judging.references == "checked" and one.id in WRONG]
    lacking = [one.id for one in without if one.id not in left_out]
    if lacking and judging.references != "none":
        raise DataError(
            f"{names}: questions without a reference answer: {len(lacking)}, first {lacking[0]}; add the file of "
            f"references or say --references none"
        )
    return JudgedData(questions, prompts=prompts, notes=_notes(questions, left_out))


def _notes(questions: Sequence[Question], left_out: Sequence[str]) -> tuple[str, ...]:
    wrong = [one.id for one in questions if one.references and one.id in WRONG]
    if wrong:
        return (
            f"{len(wrong)} of the reference answers that the judge sees are known to be wrong (questions "
            f"{', '.join(wrong)}); --references checked leaves them out",
        )
    if left_out:
        return (f"the judge sees no reference for {', '.join(left_out)}, because theirs is known to be wrong",)
    return ()


def _prompt(row: DataRow) -> PublishedPrompt:
    text = row.text("prompt_template")
    unknown = next((name for name in _PLACEHOLDER.findall(text) if name not in _KNOWN), None)
    if unknown is not None:
        raise DataError(
            f"{row.where}: {{{unknown}}} is not a placeholder of MT-Bench; those are {', '.join(sorted(_KNOWN))}"
        )
    return PublishedPrompt(row.text("system_prompt"), text)


def _question(row: DataRow, references: Mapping[str, tuple[str, ...]]) -> Question:
    name, category = row.name("question_id"), row.text("category").strip()
    return Question.asked(
        name,
        row.where,
        row.texts("turns", count=2),
        category,
        temperature=TEMPERATURES.get(category, 0.0),
        references=references.get(name, ()) if category in WITH_REFERENCE else (),
    )


def recorded(row: DataRow) -> RecordedAnswer:
    """A row of `model_answer/MODEL.jsonl`: question_id, model_id and choices, of which the first one counts."""
    choices: Any = row.values.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = first.get("turns") if isinstance(first, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise DataError(f"{row.where}: choices has no list of texts named turns")
    return RecordedAnswer(row.name("question_id"), str(row.values.get("model_id") or ""), tuple(turns))


def grading(question: Question, answers: Sequence[str], data: JudgedData) -> Messages:
    """What the judge is sent to grade the last of the answers."""
    kind = "single-math-v1" if question.references else "single-v1"
    return _filled(question, data.prompts[_of_turn(kind, len(answers))], {"answer": answers})


def _of_turn(name: str, turn: int) -> str:
    return name if turn == 1 else f"{name}-multi-turn"


def _filled(question: Question, prompt: PublishedPrompt, answers: Mapping[str, Sequence[str]]) -> Messages:
    values: dict[str, str] = {}
    for name, texts in {"question": question.turns, "ref_answer": question.references, **answers}.items():
        values |= {f"{name}_{turn}": text for turn, text in enumerate(texts, 1)}
        values[name] = texts[0] if texts else ""
    text = _PLACEHOLDER.sub(lambda match: values[match[1]], prompt.text)
    return (Message("system", prompt.system), Message("user", text))


def own_judge(judge: Judge, data: JudgedData) -> Judge:
    """The judge with FastChat's question to it, or a score function that sees each model's own first answer."""
    if isinstance(judge, ScoreJudge):
        return TurnScores(judge)
    if not isinstance(judge, ApiJudge):
        raise UsageError(f"{judge.name}: a jury cannot compare second turns; name one judge")
    questions = {question.id: question for question in data.questions}

    def ask(_prompt: Messages, first: str, second: str, columns: Mapping[str, Any]) -> Messages:
        question, turn = questions[columns["question"]], int(columns["turn"])
        prompt = data.prompts[_of_turn("pair-math-v1" if question.references else "pair-v2", turn)]
        return _filled(question, prompt, {"answer_a": split(first, turn), "answer_b": split(second, turn)})

    content = json.dumps(
        [
            [[name, one.system, one.text] for name, one in data.prompts.items()],
            [one.references for one in data.questions],
        ]
    )
    return PromptJudge(judge, "mt-bench", content, ask, _VERDICTS)


class TurnScores:
    """A rule or reward model on answers to two turns: each is scored after the model's own first answer."""

    def __init__(self, judge: ScoreJudge) -> None:
        self.name, self.kind, self._judge = judge.name, judge.kind, judge

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """One verdict per prompt."""
        sides = [[_in_context(prompt, text) for prompt, text in zip(prompts, texts)] for texts in (left, right)]
        contexts = [[before for before, _ in side] for side in sides]
        answers = [[answer for _, answer in side] for side in sides]
        return self._judge.compare_in_context(contexts[0], contexts[1], answers[0], answers[1], columns)


def _in_context(prompt: Messages, text: str) -> tuple[Messages, str]:
    """The conversation before the last answer, and that answer."""
    answers = split(text, len(prompt))
    before = [turn for pair in zip(prompt, (Message("assistant", one) for one in answers[:-1])) for turn in pair]
    return (*before, prompt[-1]), answers[-1]


MTBENCH = JudgedBenchmark(
    name="mtbench",
    title="MT-Bench",
    paper="2306.05685",
    takes=("policy",),
    hub=HubFiles("lmsys/mt-bench", "data/mt_bench/question.jsonl", "turns", repo_type="space"),
    files=("*question.jsonl", "*judge_prompts.jsonl", "*reference*.jsonl", "reference_answer/*.jsonl"),
    metrics={
        "score": Metric("mean grade of the two turns of a question, 1 to 10", grade=True),
        "turn1": Metric("grade of the first turn", grade=True),
        "turn2": Metric("grade of the second turn", grade=True),
        "win_rate": Metric("mean share of a win over both turns and both orders of a question"),
        "length_controlled": Metric("win rate at equal length of the answers"),
    },
    deviations=(
        "a grade outside of 1 to 10, and a reply with two different verdicts, is no verdict; FastChat takes the first",
        "a question without a verdict on one of its turns is left out and listed",
        "answers are sampled with a seed for each, and stop at 1,024 tokens or --max-new-tokens",
    ),
    size=80,
    max_new_tokens=1024,
    read=read,
    recorded=recorded,
    protocol={
        "grades": "two turns, the second with the model's own first answer before it; temperature 0.7 for writing and "
        "roleplay, 0.1 for stem and humanities, else 0; a grade of each turn with FastChat's question to the judge, "
        "with the reference answer for math, reasoning and coding; the unit is the question",
        "pairs": "the same answers, compared turn by turn in both orders with FastChat's question to the judge (A, B "
        "or tie); the unit is the question",
    },
    own_judge=own_judge,
    grading=grading,
)
