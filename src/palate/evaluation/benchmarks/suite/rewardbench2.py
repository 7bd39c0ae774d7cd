"""RewardBench 2 (2506.01937): one right answer of four; in the subset Ties, several right answers of many."""

from __future__ import annotations

from collections.abc import Sequence

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import AnswerSets, Benchmark, Item, Metric, Outcome
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubSource
from palate.records import Message

_TIES = "ties"


def read(files: Sequence[DataFile]) -> list[Item]:
    """Rows with id, prompt, chosen (right answers), rejected (wrong ones) and subset."""
    return [_item(row) for file in files for row in file.rows]


def _item(row: DataRow) -> Item:
    subset = row.text("subset").strip()
    ties = subset.lower() == _TIES
    right, wrong = row.texts("chosen"), row.texts("rejected")
    if not ties and (len(right), len(wrong)) != (1, 3):
        raise DataError(
            f"{row.where}: has {len(right)} chosen and {len(wrong)} rejected answers, 1 and 3 are needed outside the "
            "subset Ties"
        )
    count = len(right)
    sets = AnswerSets(tuple(range(count)), tuple(range(count, count + len(wrong))))
    return Item(
        row.name("id"),
        row.where,
        (Message("user", row.text("prompt")),),
        subset,
        choices=(*right, *wrong),
        sets={"ties" if ties else "accuracy": sets},
    )


def measure(item: Item, outcome: Outcome) -> dict[str, float]:
    """Best of four; for ties, 1 if every right answer has a higher score than every wrong one."""
    scores = outcome.per_token
    if "accuracy" in item.sets:
        return {"accuracy": item.sets["accuracy"].top_share(scores)}
    sets = item.sets["ties"]
    return {"ties": float(min(scores[one] for one in sets.right) > max(scores[one] for one in sets.wrong))}


REWARDBENCH2 = Benchmark(
    name="rewardbench2",
    title="RewardBench 2",
    paper="2506.01937",
    takes=("policy", "reward model"),
    hub=HubSource("allenai/reward-bench-2", None, "test"),
    files=("*reward*bench*2*.json*", "*reward*bench*2*.parquet"),
    read=read,
    measure=measure,
    metrics={
        "accuracy": Metric("right answer has the highest score of four (equal scores share)"),
        "ties": Metric("every right answer above every wrong one, subset Ties"),
    },
    protocol={
        "chat": "the prompt as a user turn, each answer as the assistant's; a reward model's score is its reward, a "
        "policy's its log-probability per token"
    },
    deviations=(
        "accuracy is over all items outside Ties; the leaderboard's score is the mean of the subsets",
        "ties is the share of questions that are right; the leaderboard's score for Ties also weighs margins",
        "a policy is scored without a reference, not by its implicit reward",
    ),
)
