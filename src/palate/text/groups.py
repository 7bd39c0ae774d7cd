"""What encoding makes of records: groups of token ids, rows that were dropped or cut, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from palate.records import Dropped, Record


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
        completions: K of them, in the record's order (a pair: chosen first; a ranking: best first); none of a prompt
            that is yet to be answered.
        weight: how much the group counts in the loss; 0 for a row repeated only to even out ranks.
        source: the record's source.
        labels: per completion what the method needs beside the tokens (KTO 1/0, a score, a reward), else empty.
        margin: by how much chosen is better, where a pair's row says so.
        dimensions: per named dimension the scores (chosen, rejected) of a pair.
        record: the row of a prompt to which answers are sampled.
        tokens: name → float32 [trained tokens of the group], what an online method keeps of sampled answers.
        metrics: name → mean over the sampled answers.
    """

    id: str
    prompt_ids: npt.NDArray[np.int32]
    completions: tuple[EncodedCompletion, ...]
    weight: float = 1.0
    source: str = ""
    labels: tuple[float, ...] = ()
    margin: float | None = None
    dimensions: Mapping[str, tuple[float, float]] | None = None
    record: Record | None = None
    tokens: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def packed_tokens(self) -> int:
        """Tokens that the group takes in a packed batch: the prompt once."""
        return len(self.prompt_ids) + sum(len(c.ids) for c in self.completions)

    @property
    def prompt_key(self) -> bytes:
        """What groups of one prompt share; a group without one (plain text) has its id."""
        return self.prompt_ids.tobytes() or self.id.encode()

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt + completion."""
        return len(self.prompt_ids) + max((len(c.ids) for c in self.completions), default=0)


@dataclass(frozen=True, slots=True)
class Cut:
    """A row whose prompt was shortened to fit `cutoff_len`.

    Attributes:
        id: the record's id.
        tokens_removed: by how many tokens its longest prompt + completion became shorter.
        turns_removed: whole turns (a user message with all that follows it) taken from the prompt's beginning.
    """

    id: str
    tokens_removed: int
    turns_removed: int


@dataclass(frozen=True, slots=True)
class EncodingStats:
    """Counts over one call of `encode_records`.

    Attributes:
        records: rows given.
        over_length: rows longer than `cutoff_len` before anything was cut, dropped ones included.
        ends_removed: end-of-turn or EOS texts at the end of an answer, taken off because the template writes them.
        rewritten: renderings whose contents the template changed by more than trimming.
        control_text: rows in which somebody's text spells one of the tokenizer's special tokens.
        reasoning_differs: rows with reasoning in one of their answers and none in another.
    """

    records: int = 0
    over_length: int = 0
    ends_removed: int = 0
    rewritten: int = 0
    control_text: int = 0
    reasoning_differs: int = 0

    def __add__(self, other: EncodingStats) -> EncodingStats:
        return EncodingStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of a list of records; `len(groups) + len(dropped)` is their number.

    Attributes:
        groups: the rows that can be trained on, in the order of the records.
        dropped: the rows that cannot, each with its reason: `too_long`, `equal_after_encoding`, `nothing_trained`,
            `template_refused`.
        cuts: the groups whose prompt was shortened.
        stats: counts.
    """

    groups: list[EncodedGroup]
    dropped: list[Dropped]
    cuts: list[Cut]
    stats: EncodingStats
