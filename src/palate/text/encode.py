"""Records become token ids: one prompt, K completions, and which tokens are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class EncodedCompletion:
    """One completion of a prompt.

    Attributes:
        ids: int32 [n], the tokens that follow the prompt.
        trained: bool [n], True where the token is the assistant's own (its end-of-turn token included).
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A prompt and its K completions in tokens: the one shape that every method trains on.

    Attributes:
        id: the record's id.
        prompt_ids: int32 [p]; may be empty.
        completions: K of them, in the record's order (a pair: chosen first; a ranking: best first).
        weight: how much the group counts in the loss; 0 for a row repeated only to even out ranks.
        source: the record's source.
        labels: per completion what the method needs beside the tokens (KTO 1/0, a score, a reward), else empty.
        extra: numbers a method may need (margin, dimensions), never read by text or models.
    """

    id: str
    prompt_ids: npt.NDArray[np.int32]
    completions: tuple[EncodedCompletion, ...]
    weight: float = 1.0
    source: str = ""
    labels: tuple[float, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packed_tokens(self) -> int:
        """Tokens that the group takes in a packed batch: the prompt once."""
        return len(self.prompt_ids) + sum(len(c.ids) for c in self.completions)

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt + completion."""
        return len(self.prompt_ids) + max(len(c.ids) for c in self.completions)
