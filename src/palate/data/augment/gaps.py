"""The gaps that an inspection reports, as targets: rare topics select prompts, rare kinds select principles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.artifacts import read_json
from palate.data.inspect.coverage import rare_kinds, rare_topics
from palate.data.inspect.inspection import PromptCluster
from palate.data.measures.words import tokens
from palate.errors import DataError, UsageError
from palate.records import Messages


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a dataset has little of.

    Attributes:
        topics: for each rare topic its most distinctive words.
        kinds: rare kinds of improvement: accuracy, helpfulness, safety.
    """

    topics: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]

    def covers(self, prompt: Messages) -> bool:
        """Whether the last turn has two words of a rare topic (one, if it has only one); True without topics."""
        if not self.topics:
            return True
        words = set(tokens(prompt[-1].content)) if prompt else set()
        return any(len(words.intersection(topic)) >= min(2, len(topic)) for topic in self.topics)


def read_gaps(path: str | Path) -> Gaps:
    """The gaps of a report that `palate data inspect --json` wrote.

    Raises:
        DataError: the file is not such a report.
        UsageError: the report names no gap.
    """
    report = read_json(path)
    try:
        clusters = [
            PromptCluster(tuple(map(str, cluster["words"])), int(cluster["prompts"]), float(cluster["share"]))
            for cluster in report["clusters"]
        ]
        improvements = {str(name): int(count) for name, count in report["improvements"].items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: is not a report of palate data inspect --json: {error!r}") from error
    topics = tuple(cluster.words for cluster in rare_topics(clusters) if cluster.words)
    found = Gaps(topics, tuple(rare_kinds(improvements)))
    if not found.topics and not found.kinds:
        raise UsageError(f"{path}: the inspection found no gap; leave --gaps out")
    return found
