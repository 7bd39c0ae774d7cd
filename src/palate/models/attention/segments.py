"""Segments of a packed row: queries, and the keys that they may see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palate.text.batch import Layout


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive queries and the keys that they may see: a shared prefix, then their own past and themselves.

    Attributes:
        start, end: range of the queries, and of their own keys, in the packed row.
        prefix: range of the prompt's keys in the packed row; empty if the prompt is part of the segment itself.
    """

    start: int
    end: int
    prefix: tuple[int, int]


def segments(layout: Layout) -> list[Segment]:
    """Per group: [prompt, first completion] as one causal row, then each other completion after its prompt."""
    found: list[Segment] = []
    for span in layout.spans:
        end = span.start + span.prompt + sum(span.completions[:1])
        if end > span.start:
            found.append(Segment(span.start, end, (span.start, span.start)))
        for n in span.completions[1:]:
            if n:
                found.append(Segment(end, end + n, (span.start, span.start + span.prompt)))
            end += n
    return found


def visible(tensor: Tensor, part: Segment) -> Tensor:
    """Keys or values [..., keys, d] that the segment may see, of the row's [..., T, d]; a view if it has no prefix."""
    own = tensor[..., part.start : part.end, :]
    first, last = part.prefix
    return own if first == last else torch.cat([tensor[..., first:last, :], own], dim=-2)
