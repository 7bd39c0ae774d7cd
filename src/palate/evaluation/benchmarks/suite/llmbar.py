"""LLMBar (2310.07641): which of two outputs follows the instruction? For judges, reward models and policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import AnswerSets, Benchmark, Item, Metric, Outcome
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubSource
from palate.feedback.calibration.labelled_pairs import labelled_pair

_BETTER = {"left": AnswerSets((0,), (1,)), "right": AnswerSets((1,), (0,))}


def read(files: Sequence[DataFile]) -> list[Item]:
    """Pairs of `dataset.json`: input, output_1, output_2, label. The category is the file's set (`Natural` …)."""
    items = []
    for file in files:
        category = _set_of(file)
        items += [_item(row, category) for row in file.rows]
    return items


def _set_of(file: DataFile) -> str:
    """`Natural` of `Natural/dataset.json`; else the file's name without its type."""
    path = Path(file.path)
    return path.resolve().parent.name if path.stem == "dataset" else path.stem


def _item(row: DataRow, category: str) -> Item:
    name = f"{category}-{row.number}"
    pair, vote = labelled_pair(dict(row.values), name, row.where)
    if vote.outcome not in _BETTER:
        raise DataError(f"{row.where}: the label is a tie; LLMBar has a better output in every pair")
    choices = tuple(answer.text for answer in pair.completions)
    return Item(name, row.where, pair.prompt, category, choices=choices, sets={"accuracy": _BETTER[vote.outcome]})


def measure(item: Item, outcome: Outcome) -> dict[str, float]:
    """1 if the better output has the higher score, ½ for equal scores."""
    return {"accuracy": item.sets["accuracy"].top_share(outcome.per_token)}


LLMBAR = Benchmark(
    name="llmbar",
    title="LLMBar",
    paper="2310.07641",
    takes=("policy", "reward model", "judge"),
    hub=HubSource("princeton-nlp/LLMBar", "LLMBar", "Natural"),
    files=("llmbar*.json", "dataset.json", "Natural/dataset.json", "Adversarial/*/dataset.json"),
    read=read,
    measure=measure,
    metrics={"accuracy": Metric("better output has the higher score (equal scores count one half)")},
    protocol={
        "chat": "the instruction as a user turn, each output as the assistant's; a policy's score is its "
        "log-probability per token, a reward model's its reward; a judge sees the pair in both orders and its score is "
        "the share of wins"
    },
    deviations=(
        "a judge is asked with palate's own question, not with the prompts of the paper",
        "pairs without a readable verdict in both orders are left out and listed",
    ),
)
