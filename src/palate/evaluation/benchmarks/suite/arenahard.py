"""Arena-Hard v2 (2406.11939): hard and creative prompts, five-level verdicts against a baseline for each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import Metric
from palate.evaluation.benchmarks.judged.benchmark import JudgedBenchmark, JudgedData, Question, RecordedAnswer
from palate.evaluation.benchmarks.judged.prompt_judge import PromptJudge
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.results import Published
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubFiles
from palate.evaluation.winrate.items import WinRateItem
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.render import quoted_question
from palate.feedback.votes import Vote
from palate.records import Judge, Messages, Verdict
from palate.stats import bootstrap_interval

STRONG = 3.0
"""Weight of a strong verdict in the published figure."""
_WEIGHT = "weight"
_VERDICTS = {
    "A>>B": Verdict("left", dimensions={_WEIGHT: (STRONG, 0.0)}),
    "A>B": Verdict("left", dimensions={_WEIGHT: (1.0, 0.0)}),
    "A=B": Verdict("tie", dimensions={_WEIGHT: (0.5, 0.5)}),
    "B>A": Verdict("right", dimensions={_WEIGHT: (0.0, 1.0)}),
    "B>>A": Verdict("right", dimensions={_WEIGHT: (0.0, STRONG)}),
}
_TASK = (
    "Two assistants, A and B, answered the prompt below. Decide how much better one answer is than the other.\n"
    "First work out what a good answer to the prompt contains; where it has a right answer, find that yourself. Then "
    "check both answers: name mistakes and what is missing, judge whether they do what the prompt asks, are relevant "
    "and no longer than needed, and, where the prompt asks for creative work, how original they are. The order of the "
    "answers means nothing.\n"
    "End with exactly one of these labels: [[A>>B]] A is much better, [[A>B]] A is a little better, [[A=B]] about "
    "equal, [[B>A]] B is a little better, [[B>>A]] B is much better."
)


def read(files: Sequence[DataFile], _judging: JudgeOptions) -> JudgedData:
    """Questions of `question.jsonl`: uid, category, subcategory, prompt."""
    questions = [
        Question.asked(row.name("uid"), row.where, [row.text("prompt")], row.text("category").strip())
        for file in files
        for row in file.rows
    ]
    return JudgedData(questions)


def recorded(row: DataRow) -> RecordedAnswer:
    """A row of `model_answer/MODEL.jsonl`: uid, model, and messages, of which the last one is the answer."""
    messages: Any = row.values.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    text = content.get("answer") if isinstance(content, dict) else content
    if not isinstance(text, str):
        raise DataError(f"{row.where}: the last of messages has no text as its content")
    return RecordedAnswer(row.name("uid"), str(row.values.get("model") or ""), (text,))


def own_judge(judge: Judge, _data: JudgedData) -> Judge:
    """A chat model gives a five-level verdict; other judges compare as they always do."""
    return PromptJudge(judge, "arena-hard", _TASK, ask, _VERDICTS) if isinstance(judge, ApiJudge) else judge


def ask(prompt: Messages, first: str, second: str, _columns: Mapping[str, Any]) -> Messages:
    """What a chat model is sent."""
    return quoted_question(_TASK, {"prompt": prompt[0].content, "answer A": first, "answer B": second})


def published(
    items: Sequence[WinRateItem], votes: Sequence[Vote], _data: JudgedData, _judging: JudgeOptions
) -> list[Published]:
    """The win rate in which a strong verdict counts three times; intervals by bootstrap of whole prompts."""
    weights: dict[str, npt.NDArray[np.float64]] = {}
    for vote in votes:
        if _WEIGHT in vote.dimensions:
            weights[vote.item] = weights.get(vote.item, np.zeros(2)) + np.array(vote.dimensions[_WEIGHT])
    if not weights:
        return []
    equal = np.array([1.0, 1.0])  # the same answer: a tie in both orders
    kept = [(item.category, weights.get(item.id, equal)) for item in items if item.scored]
    found = []
    for category in ("", *dict.fromkeys(name for name, _ in kept)):
        rows = np.array([weight for name, weight in kept if category in ("", name)])
        interval = bootstrap_interval(rows, _share) if len(rows) > 1 else None
        name = f"win_rate, {category}" if category else "win_rate"
        found.append(Published(name, _share(rows), interval, "strong verdicts count three times"))
    return found


def _share(rows: npt.NDArray[Any]) -> float:
    return float(rows[:, 0].sum() / rows.sum())


ARENAHARD = JudgedBenchmark(
    name="arenahard",
    title="Arena-Hard v2",
    paper="2406.11939",
    takes=("policy",),
    hub=HubFiles(
        "lmarena-ai/arena-hard-auto",
        "data/arena-hard-v2.0/question.jsonl",
        "prompt",
        "data/arena-hard-v2.0/model_answer/{}.jsonl",
    ),
    files=("*question.jsonl", "*arena*hard*.jsonl"),
    metrics={
        "win_rate": Metric("mean share of a win against the baseline, over both orders; the strength does not count"),
        "length_controlled": Metric("win rate at equal length of the answers"),
        "style_controlled": Metric("win rate at equal length, headers, lists and bold text"),
    },
    deviations=(
        "palate's own question to the judge with the published labels, in one turn, not the published text",
        "style control is palate's model on the verdicts, with an interval clustered by prompt",
        "no row is counted three times in an interval: the figure with strong verdicts is resampled by whole prompts",
    ),
    size=750,
    max_new_tokens=4096,
    read=read,
    recorded=recorded,
    protocol={
        "pairs": "a greedy answer to each prompt against the baseline's recorded one, in both orders, with verdicts "
        "from A>>B to B>>A; baselines o3-mini-2025-01-31 for hard prompts and gemini-2.0-flash-001 for creative writing"
    },
    own_judge=own_judge,
    published=published,
    baselines={"hard_prompt": "o3-mini-2025-01-31", "creative_writing": "gemini-2.0-flash-001"},
    style=True,
)
