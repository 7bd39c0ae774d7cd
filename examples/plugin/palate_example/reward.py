"""A reward: a number for each answer."""

from collections.abc import Sequence

from palate.records import Messages


def questions(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
    """The number of question marks: answers that ask back."""
    del prompts
    return [float(text.count("?")) for text in completions]
