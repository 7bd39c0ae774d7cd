"""A benchmark: which capital does a model find more probable? Rows such as {"country", "right", "wrong"}."""

from collections.abc import Sequence

from palate.evaluation.benchmarks.benchmark import AnswerSets, Benchmark, Item, Metric, Outcome
from palate.evaluation.benchmarks.source import DataFile, HubSource
from palate.records import Message


def read(files: Sequence[DataFile]) -> list[Item]:
    """A question for each row."""
    return [
        Item(
            id=str(row.values["country"]),
            where=row.where,
            prompt=(Message("user", f"What is the capital of {row.values['country']}?"),),
            choices=(str(row.values["right"]), str(row.values["wrong"])),
            sets={"accuracy": AnswerSets((0,), (1,))},
        )
        for file in files
        for row in file.rows
    ]


def measure(item: Item, outcome: Outcome) -> dict[str, float]:
    """1 if the right capital has the higher log-probability per token."""
    return {"accuracy": item.sets["accuracy"].top_share(outcome.per_token)}


CAPITALS = Benchmark(
    name="capitals",
    title="Capitals",
    paper="",
    takes=("policy",),
    files=("capitals*.jsonl",),
    metrics={"accuracy": Metric("the right capital is more probable")},
    deviations=(),
    hub=HubSource("example/capitals", None, "test"),
    read=read,
    measure=measure,
    protocol={"chat": "the question as a user turn, each capital as the assistant's"},
)
