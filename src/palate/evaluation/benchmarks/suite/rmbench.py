"""RM-Bench (2410.16184): right and wrong answers, each in three styles from concise to long with Markdown.

With M[i][j] = 1 if right answer i has a higher score than wrong answer j: `normal` is the mean of the diagonal (equal
styles), `hard` that of i < j (the wrong answer has the richer style), `easy` that of i > j, `mean` that of all nine.
"""

from __future__ import annotations

from collections.abc import Sequence

from palate.evaluation.benchmarks.benchmark import AnswerSets, Benchmark, Item, Metric, Outcome
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubSource
from palate.records import Message

STYLES = 3
_SETS = AnswerSets(tuple(range(STYLES)), tuple(range(STYLES, 2 * STYLES)))


def read(files: Sequence[DataFile]) -> list[Item]:
    """Rows with id, prompt, chosen and rejected (three answers each, from concise to rich style), and domain."""
    return [_item(row) for file in files for row in file.rows]


def _item(row: DataRow) -> Item:
    choices = (*row.texts("chosen", count=STYLES), *row.texts("rejected", count=STYLES))
    prompt = (Message("user", row.text("prompt")),)
    return Item(row.name("id"), row.where, prompt, row.text("domain"), choices=choices, sets={"mean": _SETS})


def measure(item: Item, outcome: Outcome) -> dict[str, float]:
    """The four means of one prompt's nine comparisons; equal scores are no win."""
    scores, sets = outcome.per_token, item.sets["mean"]
    wins = {
        (i, j): float(scores[right] > scores[wrong])
        for i, right in enumerate(sets.right)
        for j, wrong in enumerate(sets.wrong)
    }
    return {
        "easy": _mean([win for (i, j), win in wins.items() if i > j]),
        "normal": _mean([win for (i, j), win in wins.items() if i == j]),
        "hard": _mean([win for (i, j), win in wins.items() if i < j]),
        "mean": _mean(list(wins.values())),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


RMBENCH = Benchmark(
    name="rmbench",
    title="RM-Bench",
    paper="2410.16184",
    takes=("policy", "reward model"),
    hub=HubSource("THU-KEG/RM-Bench", None, "train"),
    files=("*rm*bench*.json*", "total_dataset.json"),
    read=read,
    measure=measure,
    metrics={
        "easy": Metric("right answer wins, its style is the richer one"),
        "normal": Metric("right answer wins, equal styles"),
        "hard": Metric("right answer wins, the wrong one has the richer style"),
        "mean": Metric("right answer wins, all nine comparisons"),
    },
    protocol={
        "chat": "the prompt as a user turn, each of six answers as the assistant's; a reward model's score is its "
        "reward, a policy's its log-probability per token"
    },
    deviations=(
        "rates are over all prompts; the paper's average is the mean of its domains",
        "a prompt's nine comparisons are one unit of the intervals",
        "a policy is scored without a reference, not by its implicit reward",
    ),
)
