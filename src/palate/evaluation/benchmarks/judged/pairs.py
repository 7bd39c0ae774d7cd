"""Verdicts on the answers of a model and of a baseline, and the figures of `palate eval winrate` from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from palate.artifacts import write_json
from palate.evaluation.benchmarks.judged.answers import RECORDED
from palate.evaluation.benchmarks.judged.benchmark import AnswerSet, JudgedBenchmark, JudgedData, Question
from palate.evaluation.benchmarks.options import BenchmarkOptions
from palate.evaluation.benchmarks.results import ModelResult
from palate.evaluation.benchmarks.statistics import Rate, rates
from palate.evaluation.winrate.folder import RESULT, WinRateFolder
from palate.evaluation.winrate.items import WinRateItem, in_order_of, judged_items, with_groups
from palate.evaluation.winrate.leaks import Leaks, PromptIndex, leaks_of
from palate.evaluation.winrate.measure import measure
from palate.evaluation.winrate.result import Result, SideFacts
from palate.evaluation.winrate.sides import Side
from palate.feedback.candidates import AnswerOrigin, Candidates
from palate.feedback.judging import JudgeQuestion, collect_votes
from palate.feedback.judging import questions as pairs_of
from palate.models.generation.decoding import sampling_seed
from palate.records import Answer, Dropped, Judge, Message, Record

TURN = "\n\x1e[next turn]\n"
"""Between the answers to several turns in one text; answers lose the control character."""
_NOT_KEPT = ("items", "regressions")


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers to the first turns as one text, of which `split` gives the parts back."""
    texts = [answer.text.replace("\x1e", " ") if len(answers) > 1 else answer.text for answer in answers]
    return replace(answers[-1], text=TURN.join(texts))


def split(text: str, turn: int) -> list[str]:
    """The answers to the first `turn` turns."""
    return text.split(TURN) if turn > 1 else [text]


@dataclass(frozen=True, slots=True)
class Pairing:
    """A model and a baseline, ready to be judged.

    Attributes:
        answers: of the model. `baseline`: what it is compared with.
        recorded: whether the model's answers were recorded before.
        source: folder or name of the model, or the file of its answers.
        folder: of the verdicts and figures.
    """

    answers: AnswerSet
    baseline: AnswerSet
    recorded: bool
    source: str
    folder: WinRateFolder


def judged_pairs(
    one: Pairing,
    questions: Sequence[Question],
    benchmark: JudgedBenchmark,
    data: JudgedData,
    judge: Judge,
    options: BenchmarkOptions,
) -> ModelResult:
    """Let the judge compare every turn in both orders (with `compat`, in one), and measure.

    Verdicts that are in the folder already are not asked for again.

    Raises:
        ArtifactError: the folder has verdicts on other answers.
        EngineError: the judge's endpoint refuses every request, or cannot be reached any more.
        DataError: no item was judged.
    """
    rows, missing = _rows(one, questions)
    one.folder.check()
    one.folder.path.mkdir(parents=True, exist_ok=True)
    one.folder.write_pairs(rows)
    asked = pairs_of(rows)
    if options.judging.compat is not None:
        asked = [pair for pair in asked if _shown_first(pair, options.seed)]
    votes = collect_votes(asked, judge, one.folder.votes)
    ids = [name for question in questions for name in _ids(question)]
    categories = {name: question.category for question in questions for name in _ids(question)}
    groups = {name: question.id for question in questions for name in _ids(question)}
    several = any(len(question.turns) > 1 for question in questions)
    items = in_order_of(ids, judged_items(rows, votes), missing, categories)
    items = _whole(with_groups(items, groups if several else None), groups)
    result = Result(
        a=_facts(one.answers),
        b=_facts(one.baseline),
        judge=judge.name,
        judge_kind=str(getattr(judge, "kind", "judge")),
        decoding=None,
        items=items,
        figures=measure(items, with_style=benchmark.style),
        leaks=_leaks(one, rows),
        without_leaks=None,
        left_out_votes={},
    )
    facts = result.to_json()
    write_json(one.folder.path / RESULT, facts)
    scores = _scores(items, groups)
    return ModelResult(
        name=one.answers.name,
        kind="answers" if one.recorded else "policy",
        source=one.source,
        identity=one.answers.identity,
        limit=None,
        scores=scores,
        answers={},
        left_out=_left_out(items, groups),
        rates=_rates(result, scores, {question.id: question.category for question in questions}),
        notes=[*one.answers.notes, *one.baseline.notes, *result.findings()],
        winrate={name: value for name, value in facts.items() if name not in _NOT_KEPT},
        published=benchmark.published(items, votes.votes, data, options.judging),
    )


def _ids(question: Question) -> list[str]:
    """The items of a question: one for each turn."""
    if len(question.turns) == 1:
        return [question.id]
    return [f"{question.id}/{turn}" for turn in range(1, len(question.turns) + 1)]


def _rows(one: Pairing, questions: Sequence[Question]) -> tuple[list[Candidates], dict[str, str]]:
    """A row for each turn of a question that both have answered, and item id → why there is none."""
    rows: list[Candidates] = []
    missing: dict[str, str] = {}
    origins = [AnswerOrigin(side.name, side.identity) for side in (one.answers, one.baseline)]
    for question in questions:
        side = next((side for side in (one.answers, one.baseline) if question.id in side.missing), None)
        if side is not None:
            missing |= dict.fromkeys(_ids(question), f"{side.name}: {side.missing[question.id]}")
            continue
        a, b = (side.answers[question.id] for side in (one.answers, one.baseline))
        for turn, name in enumerate(_ids(question), 1):
            row = Candidates(
                name,
                tuple(Message("user", text) for text in question.turns[:turn]),
                (joined(a[:turn]), joined(b[:turn])),
                columns={"question": question.id, "turn": turn, "category": question.category},
            )
            rows.append(row.with_origins(origins))
    return rows, missing


def _shown_first(pair: JudgeQuestion, seed: int) -> bool:
    """Whether this order of the two is the one that is drawn for the item."""
    drawn = "left_first" if sampling_seed(seed, "order", pair.row.id) % 2 else "right_first"
    return pair.shown == drawn


def _whole(items: Sequence[WinRateItem], groups: Mapping[str, str]) -> list[WinRateItem]:
    """The items, where a question without a verdict on one turn counts on none: the question is the unit."""
    bad: dict[str, WinRateItem] = {}
    for item in items:
        if not item.scored:
            bad.setdefault(groups[item.id], item)
    return [
        replace(item, status=cause.status, verdicts=(), probability=None, reason=f"{cause.id}: {cause.reason}")
        if item.scored and (cause := bad.get(groups[item.id])) is not None
        else item
        for item in items
    ]


def _leaks(one: Pairing, rows: Sequence[Candidates]) -> list[Leaks]:
    """Prompts in the training data of the model, if it is a run; the baseline's is not known."""
    index = PromptIndex([Record(id=row.id, prompt=row.prompt) for row in rows])
    own = leaks_of(Side(one.source, one.source, recorded=one.recorded), index)
    return [replace(own, side=one.answers.name), Leaks(one.baseline.name, reason="the baseline")]


def _scores(items: Sequence[WinRateItem], groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Question id → mean share of a win over its turns."""
    shares: dict[str, list[float]] = {}
    for item in items:
        if item.score is not None:
            shares.setdefault(groups[item.id], []).append(item.score)
    return {question: {"win_rate": sum(found) / len(found)} for question, found in shares.items()}


def _rates(result: Result, scores: Mapping[str, Mapping[str, float]], categories: Mapping[str, str]) -> list[Rate]:
    figures, style = result.figures, result.figures.length_and_style_controlled
    whole = {
        "win_rate": figures.win_rate.rate,
        "length_controlled": figures.length_controlled.rate,
        "style_controlled": None if style is None else style.rate,
    }
    found = [Rate(name, None, rate) for name, rate in whole.items() if rate is not None]
    return [*found, *(rate for rate in rates(scores, categories, ["win_rate"]) if rate.category is not None)]


def _left_out(items: Sequence[WinRateItem], groups: Mapping[str, str]) -> list[Dropped]:
    """The questions without a verdict, each with the reason of its first turn without one."""
    found: dict[str, Dropped] = {}
    for item in items:
        if not item.scored:
            reason: str = "unparsed" if item.status == "unparsed" else "no_answer" if item.row is None else "no_reply"
            reason = "too_long" if "too_long" in item.reason else reason
            found.setdefault(groups[item.id], Dropped(groups[item.id], reason, item.reason))
    return list(found.values())


def _facts(answers: AnswerSet) -> SideFacts:
    identities = [answers.identity] if answers.identity is not None else []
    recorded = all(turn.finish_reason == RECORDED for turns in answers.answers.values() for turn in turns)
    return SideFacts(answers.name, recorded, identities, len(answers.truncated), len(answers.empty))
