"""The probe's input: random tokens that cross every length at which a model changes its computation.

- Attention windows: the prompt is longer than the window; a wide window is narrowed during the probe.
- Limits of rotary positions: the positions of a second group begin just below them, so that few tokens suffice.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.models.attention.rotary import length_rule, rope_parameters
from palate.models.upstream import changed
from palate.text.batch import Batch, pack, pad
from palate.text.groups import EncodedCompletion, EncodedGroup

_PROMPT, _COMPLETIONS, _BEYOND = 9, (6, 4, 7), 5
_WINDOWS = ("sliding_window", "attention_chunk_size")
_LONGEST_WINDOW, _NARROW = 256, 6


@dataclass(frozen=True, slots=True)
class ProbeGroups:
    """A group at position 0, and optionally one beyond the limits of rotary positions.

    Attributes:
        group: three completions of different lengths.
        beyond: one completion; None if positions have no limit to cross.
        offset: first position of `beyond`.
    """

    group: EncodedGroup
    beyond: EncodedGroup | None = None
    offset: int = 0

    @property
    def groups(self) -> list[EncodedGroup]:
        return [self.group] if self.beyond is None else [self.group, self.beyond]

    def rows(self, device: torch.device) -> list[Batch]:
        """One batch for each completion with its prompt."""
        rows = [pad([replace(self.group, completions=(one,))]) for one in self.group.completions]
        if self.beyond is not None:
            rows.append(self._shifted(pad([self.beyond]), 0, 0))
        return [row.to(device) for row in rows]

    def padded(self, device: torch.device) -> Batch:
        return self._shifted(pad(self.groups), len(self.group.completions), 0).to(device)

    def packed(self, device: torch.device) -> Batch:
        return self._shifted(pack(self.groups), 0, self.group.packed_tokens).to(device)

    def with_another_prompt(self) -> ProbeGroups:
        """The same completions after prompts in reverse order, except for the last token."""

        def other(group: EncodedGroup) -> EncodedGroup:
            return replace(group, prompt_ids=np.append(group.prompt_ids[-2::-1], group.prompt_ids[-1:]))

        return replace(self, group=other(self.group), beyond=None if self.beyond is None else other(self.beyond))

    def joined(self, gradient: Tensor) -> list[Tensor]:
        """The gradient [rows, width, H] of padded rows by parts of a packed row; a prompt's gradients are summed."""
        parts: list[Tensor] = []
        first = 0
        for group in self.groups:
            prompt, rows = len(group.prompt_ids), gradient[first : first + len(group.completions)]
            first += len(group.completions)
            parts.append(rows[:, :prompt].sum(0))
            parts += [row[prompt : prompt + len(one.ids)] for row, one in zip(rows, group.completions, strict=True)]
        return parts

    def parts(self, gradient: Tensor) -> list[Tensor]:
        """A packed row's gradient [1, T, H], split into prompts and completions."""
        sizes = [n for group in self.groups for n in (len(group.prompt_ids), *(len(c.ids) for c in group.completions))]
        return list(torch.split(gradient[0], sizes))

    def _shifted(self, batch: Batch, row: int, column: int) -> Batch:
        """The batch with the positions of `beyond` shifted, from this row and column on."""
        if self.beyond is not None:
            batch.position_ids[row:, column:] += self.offset
        return batch


def probe_groups(model: Any) -> ProbeGroups:
    """Groups that cross the attention windows and the limits of rotary positions in the model's config."""
    text = model.config.get_text_config()
    random = np.random.default_rng(0)
    # Low ids are often special tokens, which some models treat differently.
    low = min(64, text.vocab_size // 2)

    def group(prompt: int, *completions: int) -> EncodedGroup:
        def ids(n: int) -> np.ndarray:
            return random.integers(low, text.vocab_size, n).astype(np.int32)

        answers = tuple(EncodedCompletion(ids(n), np.ones(n, dtype=bool)) for n in completions)
        return EncodedGroup("probe", ids(prompt), answers)

    window = max([0, *(value for _, value in _windows(text) if value <= _LONGEST_WINDOW)])
    found = group(_PROMPT + window, *_COMPLETIONS)
    limit = _rotary_limit(text) if _may_change_with_length(model) else None
    # A limit within the first group is crossed by that group.
    if limit is None or limit <= found.longest_row:
        return ProbeGroups(found)
    return ProbeGroups(found, group(_BEYOND, _BEYOND), limit - _BEYOND)


def narrow_windows(model: Any) -> contextlib.AbstractContextManager[None]:
    """Inside, attention windows that are too wide to cross quickly are narrow: masks follow the config."""
    text = model.config.get_text_config()
    return changed(text, **{name: _NARROW for name, value in _windows(text) if value > _LONGEST_WINDOW})


def _windows(text: Any) -> list[tuple[str, int]]:
    found = [(name, getattr(text, name, None)) for name in _WINDOWS]
    return [(name, value) for name, value in found if isinstance(value, int) and value > 0]


def _may_change_with_length(model: Any) -> bool:
    """Whether the config names a length for its rotary positions, or the code is not from transformers."""
    text = model.config.get_text_config()
    named = any("original_max_position_embeddings" in one for one in rope_parameters(text))
    return named or length_rule(model.config) is not None or not type(model).__module__.startswith("transformers.")


def _rotary_limit(text: Any) -> int | None:
    """The largest length in the config of the rotary positions; None without rotary positions."""
    parameters = list(rope_parameters(text))
    if not parameters:
        return None
    named = [one.get("original_max_position_embeddings") for one in parameters]
    named += [getattr(text, name, None) for name in ("original_max_position_embeddings", "max_position_embeddings")]
    return max((value for value in named if isinstance(value, int)), default=None)
