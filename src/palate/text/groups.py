"""The results of encoding: groups of token ids, dropped and shortened rows, and counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate.records import Dropped, Record


@dataclass(frozen=True, slots=True)
class EncodedCompletion:
    """One completion of a prompt.

    Attributes:
        ids: int32 [n], the tokens that follow the prompt.
        trained: bool [n], True for the assistant's own tokens (end of turn included).
    """

    ids: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedGroup:
    """A prompt and its K completions in tokens; every method trains on these.

    Attributes:
        id: the record's id.
        prompt_ids: int32 [p]; may be empty.
        completions: K of them, in the record's order (a pair: chosen first; a ranking: best first); none if answers
            are still to be sampled.
        weight: of the group in the loss; 0 for a row repeated only to even out ranks.
        source: the record's source.
        labels: a number for each completion, if the method needs one (KTO 1/0, a score, a reward), else empty.
        margin: by how much chosen is better, if a pair's row has it.
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
        """Tokens of the group in a packed batch, which has the prompt once."""
        return len(self.prompt_ids) + sum(len(c.ids) for c in self.completions)

    @property
    def prompt_key(self) -> bytes:
        """Equal for groups with the same prompt; the id of a group without one (plain text)."""
        return self.prompt_ids.tobytes() or self.id.encode()

    @cached_property
    def content_hash(self) -> bytes:
        """16 bytes that identify the group's tokens and masks, whatever its id, weight or labels."""
        digest = hashlib.sha256()
        arrays = [self.prompt_ids, *(array for row in self.completions for array in (row.ids, row.trained))]
        for part in arrays:
            digest.update(f"{part.dtype.str}{len(part)}:".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.digest()[:16]

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt + completion."""
        return len(self.prompt_ids) + max((len(c.ids) for c in self.completions), default=0)


@dataclass(frozen=True, slots=True)
class Cut:
    """A row whose prompt was shortened to fit `cutoff_len`.

    Attributes:
        id: the record's id.
        tokens_removed: from its longest prompt + completion.
        turns_removed: whole turns (a user message with what follows it) removed from the start of the prompt.
    """

    id: str
    tokens_removed: int
    turns_removed: int


@dataclass(frozen=True, slots=True)
class EncodingStats:
    """Counts over one call of `encode_records`.

    Attributes:
        records: rows encoded.
        over_length: rows that were longer than `cutoff_len`, dropped ones included.
        ends_removed: end-of-turn or EOS texts removed from the end of an answer, because the template writes them.
        rewritten: renderings in which the template changed a content by more than trimming.
        control_text: rows with the text of a special token in a message.
        reasoning_differs: rows with reasoning in some of their answers only.
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
    """A list of records after encoding; `len(groups) + len(dropped)` is their number.

    Attributes:
        groups: the rows to train on, in the order of the records.
        dropped: the other rows, each with its reason: `too_long`, `equal_after_encoding`, `nothing_trained`,
            `template_refused`.
        cuts: the groups whose prompt was shortened.
        stats: counts.
        source_of: id → source of the records that were dropped or shortened.
    """

    groups: Sequence[EncodedGroup]
    dropped: list[Dropped]
    cuts: list[Cut]
    stats: EncodingStats
    source_of: dict[str, str] = field(default_factory=dict)

    def with_counts(self, part: Encoded) -> Encoded:
        """This with all of another list but its groups; the dropped and shortened records are added in place."""
        self.dropped.extend(part.dropped)
        self.cuts.extend(part.cuts)
        self.source_of.update(part.source_of)
        return replace(self, stats=self.stats + part.stats)
