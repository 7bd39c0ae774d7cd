"""Groups as one `Batch`: packed with every prompt once and no padding, or padded for models that need it.

```
input_ids     [ p p p p c c c r r r | p p c c c c r r | … ]      each prompt once, followed by its completions
position_ids  [ 0 1 2 3 4 5 6 4 5 6 | 0 1 2 3 4 5 2 3 | … ]      each completion continues its prompt
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch

from palate.text.group_file import lengths_of
from palate.text.groups import EncodedGroup

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """The position of one group in a packed row.

    Attributes:
        start: index of the prompt's first token.
        prompt: number of prompt tokens.
        completions: number of tokens of each completion, in order; they follow the prompt without gaps.
    """

    start: int
    prompt: int
    completions: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.prompt + sum(self.completions)


@dataclass(frozen=True, slots=True)
class Layout:
    """The tree structure of a packed row, passed to the model's forward and on to the attention function."""

    spans: tuple[Span, ...]

    @property
    def tokens(self) -> int:
        return self.spans[-1].end if self.spans else 0


@dataclass(eq=False, repr=False)
class Batch(Mapping[str, Any]):
    """The input of one forward pass: T tokens, M trained targets, C completions, G groups.

    Attributes:
        groups: the G encoded groups, in order.
        input_ids: int64 [1, T] packed, or [C, L] padded.
        position_ids: int64, the shape of input_ids.
        attention_mask: bool [1, T] of ones when packed; [C, L] when padded.
        layout: tree of the packed row; None when padded.
        target_index: int64 [M], positions in the flattened input_ids whose hidden state predicts a trained token.
        target_ids: int64 [M], the trained tokens.
        completion_of: int64 [M], which of the C completions each target belongs to; ascending.
        group_of: int64 [C], which of the G groups each completion belongs to; ascending.
        weights: float32 [G], the groups' weights in the loss.

    It is a Mapping of its tensors because transformers' Trainer expects one; it has no "labels".
    """

    groups: Sequence[EncodedGroup]
    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    layout: Layout | None
    target_index: torch.Tensor
    target_ids: torch.Tensor
    completion_of: torch.Tensor
    group_of: torch.Tensor
    weights: torch.Tensor

    @property
    def completions(self) -> int:
        """Number C of completions."""
        return self.group_of.numel()

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(self, **{name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.items()})

    def model_inputs(self) -> dict[str, Any]:
        """The arguments of the scoring forward (`models.scoring.forward`)."""
        names = ("input_ids", "position_ids", "attention_mask", "layout", "target_index", "target_ids")
        return {name: getattr(self, name) for name in names}

    def __getitem__(self, name: str) -> Any:
        if name not in _TENSORS:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_TENSORS)

    def __len__(self) -> int:
        return len(_TENSORS)


_TENSORS = tuple(field.name for field in fields(Batch) if field.name not in ("groups", "layout"))


def pack(groups: Sequence[EncodedGroup]) -> Batch:
    """One packed row of all groups, each prompt once.

    A completion's first token is predicted at the prompt's last token. After an empty prompt it is not trained.
    """
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    trained_ids: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    group_of: list[int] = []
    spans: list[Span] = []
    start = 0
    for number, group in enumerate(groups):
        prompt = len(group.prompt_ids)
        ids.append(group.prompt_ids)
        positions.append(np.arange(prompt))
        offset = start + prompt
        for completion in group.completions:
            n = len(completion.ids)
            ids.append(completion.ids)
            positions.append(np.arange(prompt, prompt + n))
            where = np.flatnonzero(completion.trained)
            if prompt == 0:
                where = where[where > 0]
            # A token is predicted by the state before it; a completion's first token by the prompt's last state.
            targets.append(np.where(where > 0, offset + where - 1, start + prompt - 1))
            trained_ids.append(completion.ids[where])
            owners.append(np.full(len(where), len(group_of)))
            group_of.append(number)
            offset += n
        spans.append(Span(start, prompt, tuple(len(c.ids) for c in group.completions)))
        start = offset
    return Batch(
        tuple(groups),
        input_ids=_long(ids)[None],
        position_ids=_long(positions)[None],
        attention_mask=torch.ones(1, start, dtype=torch.bool),
        layout=Layout(tuple(spans)),
        target_index=_long(targets),
        target_ids=_long(trained_ids),
        completion_of=_long(owners),
        group_of=torch.tensor(group_of),
        weights=torch.tensor([group.weight for group in groups], dtype=torch.float32),
    )


def pad(groups: Sequence[EncodedGroup], pad_id: int = 0) -> Batch:
    """One right-padded row per completion, its prompt repeated: for models that tree attention cannot express."""
    rows = [(number, group, completion) for number, group in enumerate(groups) for completion in group.completions]
    width = max(len(group.prompt_ids) + len(completion.ids) for _, group, completion in rows)
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=bool)
    targets: list[np.ndarray] = []
    trained_ids: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for row, (_, group, completion) in enumerate(rows):
        prompt, n = len(group.prompt_ids), len(completion.ids)
        input_ids[row, :prompt] = group.prompt_ids
        input_ids[row, prompt : prompt + n] = completion.ids
        mask[row, : prompt + n] = True
        where = np.flatnonzero(completion.trained)
        if prompt == 0:
            where = where[where > 0]
        targets.append(row * width + prompt + where - 1)
        trained_ids.append(completion.ids[where])
        owners.append(np.full(len(where), row))
    return Batch(
        tuple(groups),
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.arange(width).expand(len(rows), width).contiguous(),
        attention_mask=torch.from_numpy(mask),
        layout=None,
        target_index=_long(targets),
        target_ids=_long(trained_ids),
        completion_of=_long(owners),
        group_of=torch.tensor([number for number, _, _ in rows]),
        weights=torch.tensor([group.weight for group in groups], dtype=torch.float32),
    )


def micro_batches(
    groups: Sequence[EncodedGroup], budget: int, collate: Callable[[Sequence[EncodedGroup]], Batch], *, packed: bool
) -> list[Batch]:
    """`stream_batches` as a list: a step's groups, which fit into memory."""
    return list(stream_batches(groups, budget, collate, packed=packed))


def stream_batches(
    groups: Sequence[EncodedGroup], budget: int, collate: Callable[[Sequence[EncodedGroup]], Batch], *, packed: bool
) -> Iterator[Batch]:
    """Split groups into batches of at most `budget` tokens, longest groups first.

    Sorting by length balances the passes and saves padding. A step's gradient is a sum over its groups, so it does not
    depend on the order. Groups in a file are sorted by its index, and only those of one batch are in memory.

    Args:
        groups: the groups of a DataLoader batch, or any others.
        budget: tokens of one forward pass; a longer group gets a separate pass.
        collate: `pack` or `pad`.
        packed: True if a pass costs the sum of its groups' tokens, False if rows × the longest row.
    """
    current: list[EncodedGroup] = []
    for index in np.argsort(-lengths_of(groups).packed.astype(np.int64), kind="stable"):
        group = groups[index]
        if current and cost([*current, group], packed=packed) > budget:
            yield collate(current)
            current = []
        current.append(group)
    if current:
        yield collate(current)


def cost(groups: Sequence[EncodedGroup], *, packed: bool) -> int:
    """Tokens that a forward pass over the groups computes."""
    if packed:
        return sum(group.packed_tokens for group in groups)
    return sum(len(group.completions) for group in groups) * max(group.longest_row for group in groups)


def score_completions(
    groups: Sequence[EncodedGroup],
    score: Callable[[Batch], Sequence[T]],
    *,
    packed: bool,
    device: torch.device,
    budget: int = 4096,
    advance: Callable[[int], None] = lambda _: None,
) -> list[list[T]]:
    """Score all completions; returns a list of `score`'s values for each group, in the order of the groups.

    Args:
        score: returns one value for each completion of a batch.
        packed, budget: as for `micro_batches`.
        advance: called with the number of groups of each batch.
    """
    groups = list(groups)  # groups in a file are read once: their values are found by the object
    found: dict[int, list[T]] = {}
    for batch in micro_batches(groups, budget, pack if packed else pad, packed=packed):
        values = iter(score(batch.to(device)))
        for group in batch.groups:
            found[id(group)] = [next(values) for _ in group.completions]
        advance(len(batch.groups))
    return [found[id(group)] for group in groups]


def _long(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)) if parts else torch.zeros(0, dtype=torch.int64)
