"""The true reward of the review experiments: how kind a sentiment lexicon finds the whole review.

`rewards: experiments/_reward.py:sentiment`, `judge: experiments/_reward.py:sentiment`. It needs the extra
`experiments` (vaderSentiment).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from palate.records import Messages


def sentiment(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
    """VADER's compound score in −1 … 1 of prompt and completion together, as a reader sees them.

    The prompt counts because a completion may take back what the prompt began to say ("The plot was not | boring"); two
    completions of one prompt are compared fairly all the same.
    """
    return [
        score("".join(message.content for message in prompt) + completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


@lru_cache(maxsize=65536)
def score(text: str) -> float:
    """VADER's compound score of one text (Hutto and Gilbert 2014): Σ of word valences s, as s / √(s² + 15)."""
    return float(_analyzer().polarity_scores(text)["compound"])


@lru_cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
