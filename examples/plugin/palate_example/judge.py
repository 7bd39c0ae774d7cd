"""A judge: a verdict for each pair of answers."""

from collections.abc import Sequence

from palate.records import Columns, Messages, Verdict


class Alphabet:
    """Prefers the answer that comes first in the alphabet."""

    name = "alphabet"

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """The outcome of each comparison."""
        del prompts, columns
        return [Verdict("left" if one < other else "right") for one, other in zip(left, right)]
