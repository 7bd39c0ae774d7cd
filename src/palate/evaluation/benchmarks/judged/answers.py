"""The answers of a model to a benchmark's questions: written now, turn by turn, or recorded before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from palate.artifacts import file_name
from palate.config.base import MAX_INT
from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import Item
from palate.evaluation.benchmarks.contestants import Contestant
from palate.evaluation.benchmarks.encode import prompt_groups
from palate.evaluation.benchmarks.judged.benchmark import AnswerSet, JudgedBenchmark, Question, RecordedAnswer
from palate.evaluation.benchmarks.options import BenchmarkOptions
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.subject import Subject
from palate.evaluation.winrate.sides import load_side, read_side
from palate.feedback.candidates import Answerer, read_candidates, write_candidates
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding
from palate.models.precision import default_device, resolve
from palate.models.probe.limits import trained_length
from palate.records import Answer, Dropped, Record

FAILED = "$ERROR$"
"""What FastChat records as the answer of a request that failed."""
RECORDED = "recorded"
"""Finish reason of recorded answers, which do not say it."""


def written_answers(
    contestant: Contestant,
    questions: Sequence[Question],
    benchmark: JudgedBenchmark,
    options: BenchmarkOptions,
    folder: Path,
) -> AnswerSet:
    """Let a model answer; answers that are in the folder already are kept.

    Each turn has the model's own earlier answers in its prompt. A prompt that leaves no room for the longest answer is
    not asked; it is named in `missing`, and so are the later turns.

    Raises:
        ModelError, EngineError: the model cannot be loaded or reached.
        ArtifactError: the folder has answers that were made with other settings or weights.
    """
    answerer = _load(contestant, options)
    longest = options.max_new_tokens or benchmark.max_new_tokens
    done: dict[str, list[Answer]] = {question.id: [] for question in questions}
    missing: dict[str, str] = {}
    for turn in range(max(len(question.turns) for question in questions)):
        for temperature in sorted({question.temperature for question in questions}):
            records = [
                Record(id=one.id, prompt=one.conversation([answer.text for answer in done[one.id]]))
                for one in questions
                if one.temperature == temperature and turn < len(one.turns) and one.id not in missing
            ]
            why = _too_long(records, answerer, longest, options.cutoff_len)
            missing.update({one: f"turn {turn + 1}: {text}" for one, text in why.items()})
            asked = [record for record in records if record.id not in why]
            if not asked:
                continue
            path = folder / f"{file_name(contestant.name)}.turn{turn + 1}.t{temperature:g}.jsonl"
            write_candidates(asked, answerer, 1, Decoding(longest, temperature, seed=options.seed), path=path)
            rows = {row.id: row.completions[0] for row in read_candidates(path)}
            for record in asked:
                done[record.id].append(rows[record.id])
    identity = answerer.identity
    del answerer
    give_back_memory()
    answers = {one.id: tuple(done[one.id]) for one in questions if one.id not in missing}
    return AnswerSet(contestant.name, answers, missing, identity)


def _load(contestant: Contestant, options: BenchmarkOptions) -> Answerer:
    if contestant.spec is None:
        return load_side(read_side(contestant.source), template=None, precision=options.precision)
    device = default_device()
    return Subject(contestant.spec, resolve(options.precision, device), device)


def _too_long(records: Sequence[Record], answerer: Answerer, longest: int, cutoff_len: int | None) -> dict[str, str]:
    """Prompt id → why the model cannot answer it; nothing for an engine, which says so itself."""
    if not isinstance(answerer, Subject):
        return {}
    limit = min(cutoff_len or MAX_INT, trained_length(answerer.model) or MAX_INT)
    items = [Item(record.id, "", record.prompt) for record in records]
    groups = prompt_groups(items, answerer.template, limit, max_new_tokens=longest)
    return {group.id: f"{group.reason}: {group.detail}" for group in groups if isinstance(group, Dropped)}


def recorded_answers(
    name: str,
    paths: Sequence[Path],
    questions: Sequence[Question],
    benchmark: JudgedBenchmark,
    *,
    wanted: Callable[[Question, RecordedAnswer], bool] = lambda _question, _answer: True,
) -> AnswerSet:
    """The answers in files of the published format, to any of the benchmark's questions.

    Args:
        wanted: whether a row may answer a question, as of a baseline that is another model in each category.

    Raises:
        DataError: a row has no answer, answers a question again, or no question is answered; names file and row.
    """
    by_key = {benchmark.key(question): question for question in questions}
    answers: dict[str, tuple[Answer, ...]] = {}
    missing: dict[str, str] = {}
    places: dict[str, str] = {}
    unused = 0
    files = " and ".join(path.name for path in paths)
    for path in paths:
        for row in read_file(path).rows:
            found = benchmark.recorded(row)
            question = by_key.get(found.key)
            unused += question is None
            if question is None or not wanted(question, found):
                continue
            if question.id in places:
                raise DataError(
                    f"{row.where}: answers question {question.id} of {places[question.id]} again; remove one of them"
                )
            places[question.id] = row.where
            if len(found.turns) != len(question.turns):
                raise DataError(f"{row.where}: has answers to {len(found.turns)} of {len(question.turns)} turns")
            if any(turn.strip() == FAILED for turn in found.turns):
                missing[question.id] = f"{row.where}: the answer is {FAILED}, of a request that failed"
            else:
                answers[question.id] = tuple(Answer(turn, RECORDED) for turn in found.turns)
    if not answers:
        raise DataError(f"{files}: answers no question of {benchmark.title}")
    missing |= {one.id: f"{files} has no answer" for one in questions if one.id not in places}
    notes = (f"{name}: recorded answers to other questions: {unused}",) if unused else ()
    return AnswerSet(name, answers, missing, notes=notes)
