"""AlpacaEval (2404.04475): win rate against a baseline's recorded answers to 805 instructions, at equal length, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import Metric, refuse_repeated
from palate.evaluation.benchmarks.judged.answers import RECORDED
from palate.evaluation.benchmarks.judged.benchmark import (
    AnswerSet,
    JudgedBenchmark,
    JudgedData,
    Question,
    RecordedAnswer,
)
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.results import Published
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubFiles
from palate.evaluation.winrate.items import WinRateItem
from palate.feedback.votes import Vote
from palate.records import Answer
from palate.stats import GamedRows, alpaca_eval_rate, mean_interval
from palate.stats.winrate.alpaca_eval import FOLDS

_NO_ERROR = (
    "without an interval: alpaca_eval's lc_standard_error is not used, because it is the standard error of fitted "
    "values and leaves out the error of the fit (its 95 % interval covers 33 % in a simulation at n = 805)"
)


def read(files: Sequence[DataFile], _judging: JudgeOptions) -> JudgedData:
    """Outputs of the baseline (instruction, output, generator, dataset), and the files of its formula, if any."""
    outputs = [file for file in files if file.rows and file.rows[0].has("instruction")]
    if len(outputs) != 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{names}: give one file of the baseline's outputs, with instruction and output in each row")
    rows = outputs[0].rows
    questions, answers = [], {}
    for row in rows:
        found = recorded(row)
        category = row.text("dataset").strip() if row.has("dataset") else ""
        question = Question.asked(str(row.number), row.where, [found.key], category)
        questions.append(question)
        answers[question.id] = (Answer(found.turns[0], RECORDED),)
    refuse_repeated(questions, lambda question: question.prompt[0].content, "instruction")
    name = recorded(rows[0]).model or outputs[0].name
    gamed = None
    for file in files:
        if not file.rows or not file.rows[0].has("instruction_difficulty"):
            continue
        if file.rows[0].has("preference"):
            gamed, difficulty = _gamed(file)
        else:
            difficulty = [_number(row, "instruction_difficulty") for row in file.rows]
        if len(difficulty) != len(questions):
            raise DataError(
                f"{file.path}: has the difficulty of {len(difficulty)} instructions, not of {len(questions)}"
            )
        questions = [replace(one, difficulty=value) for one, value in zip(questions, difficulty)]
    return JudgedData(questions, AnswerSet(name, answers, {}), gamed=gamed)


def _gamed(file: DataFile) -> tuple[GamedRows, list[float]]:
    """The rows of `df_gamed.csv`, and the difficulty of each instruction by its index."""
    values = [[_number(row, name) for row in file.rows] for name in ("preference", "std_delta_len")]
    difficulty = [_number(row, "instruction_difficulty") for row in file.rows]
    by_index = {int(_number(row, "index")): value for row, value in zip(file.rows, difficulty)}
    if sorted(by_index) != list(range(len(by_index))):
        raise DataError(f"{file.path}: its indices of instructions are not 0 to {len(by_index) - 1}")
    kept = [number for number, value in enumerate(values[0]) if not math.isnan(value)]
    picked = [[column[number] for number in kept] for column in (*values, difficulty)]
    return GamedRows(*picked), [by_index[index] for index in range(len(by_index))]


def _number(row: DataRow, name: str) -> float:
    value = row.values.get(name)
    try:
        return float("nan") if value in (None, "") and name == "preference" else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DataError(f"{row.where}: {name} {value!r} is no number") from error


def recorded(row: DataRow) -> RecordedAnswer:
    """A row of AlpacaEval's outputs: instruction, output, generator."""
    output = row.values.get("output")
    if not isinstance(output, str):
        raise DataError(f"{row.where}: has no text named output")
    return RecordedAnswer(row.text("instruction"), str(row.values.get("generator") or ""), (output,))


def published(
    items: Sequence[WinRateItem], _votes: Sequence[Vote], data: JudgedData, judging: JudgeOptions
) -> list[Published]:
    """With `--compat alpaca_eval`, its win rate and its length-controlled win rate."""
    kept = [(item, score) for item in items if (score := item.score) is not None]
    if judging.compat is None or len(kept) < FOLDS:
        return []
    difficulty = {question.id: question.difficulty for question in data.questions}
    hard = [value for item, _ in kept if (value := difficulty[item.id]) is not None]
    shares = [score for _, score in kept]
    longer = [item.lengths[1] - item.lengths[0] for item, _ in kept]
    rate = alpaca_eval_rate(shares, longer, hard or None, data.gamed)
    terms = [
        "length",
        *(["instruction_difficulty"] if hard else []),
        *(["gamed baselines, weight 0.2"] if data.gamed else []),
    ]
    lacking = "" if hard and data.gamed else "; give df_gamed.csv with --data for the whole formula"
    return [
        Published("win_rate", sum(shares) / len(shares), mean_interval(shares), "one order for each item; mean ± t·SE"),
        Published("length_controlled_winrate", rate, None, f"terms: {', '.join(terms)}{lacking}; {_NO_ERROR}"),
    ]


ALPACAEVAL = JudgedBenchmark(
    name="alpacaeval",
    title="AlpacaEval",
    paper="2404.04475",
    takes=("policy",),
    hub=HubFiles("tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json", "instruction"),
    files=("*alpaca*eval*.json", "df_gamed.csv", "instruction_difficulty.csv"),
    metrics={
        "win_rate": Metric("mean share of a win against the baseline, over both orders"),
        "length_controlled": Metric(
            "win rate at equal length of the answers (palate's model, cluster-robust interval)"
        ),
    },
    deviations=(
        "palate's own question to the judge (or --judge-prompt), not alpaca_eval's",
        "every item is judged in both orders; with --compat alpaca_eval in one that is drawn with --seed",
        "length control has no difficulty of instructions and no gamed baselines, except with --compat alpaca_eval",
        "the folds of --compat alpaca_eval's cross-validation are palate's own; its own depend on an unstable sort",
    ),
    size=805,
    max_new_tokens=2048,
    read=read,
    recorded=recorded,
    key=lambda question: question.turns[0],
    protocol={
        "pairs": "a greedy answer to each instruction against the baseline's recorded one; verdicts of any judge; "
        "win rate, raw and length-controlled"
    },
    published=published,
)
