"""What a dataset has little of: kinds of improvement and topics of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palate.data.inspect.inspection import PromptCluster
from palate.data.measures.pairs import IMPROVEMENTS

MIN_JUDGED = 50
"""Below this number of pairs the shares of improvements are not reported."""
RARE_KIND = 0.05
"""Largest share of the pairs with which a kind of improvement is rare."""
RARE_TOPIC = 0.02
"""Largest share of the prompts with which a topic is rare."""


def rare_kinds(improvements: Mapping[str, int]) -> dict[str, float]:
    """Accuracy, helpfulness and safety, with their share, where it is rare; none for few pairs."""
    total = sum(improvements.values())
    if total < MIN_JUDGED:
        return {}
    shares = {name: improvements.get(name, 0) / total for name in IMPROVEMENTS[:3]}
    return {name: share for name, share in shares.items() if share < RARE_KIND}


def rare_topics(clusters: Sequence[PromptCluster]) -> list[PromptCluster]:
    return [cluster for cluster in clusters if cluster.share < RARE_TOPIC]
