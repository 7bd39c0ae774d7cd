"""Rotary positions that depend on the length of the sequence: LongRoPE and dynamic NTK scaling.

transformers takes that length from the longest row of a batch, and dynamic NTK also from earlier batches. A row's score
would then depend on the rows beside it. Here rows whose angles differ are computed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from palate.errors import ModelError

_LONG = {"longrope", "su"}  # two sets of angles: up to a length, and beyond


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How a model's rotary angles follow from the length of a sequence.

    Attributes:
        kind: `longrope` or `dynamic`, or `rows` for a model whose rows must not share a batch for another reason.
        limits: lengths beyond which the angles change, ascending.
        each: beyond the first limit every length has angles of its own.
    """

    kind: str
    limits: tuple[int, ...]
    each: bool

    def angles(self, length: int) -> int:
        """Sequences of equal numbers have the same angles."""
        if self.each:
            return max(length, self.limits[0])
        return sum(length > limit for limit in self.limits)

    @property
    def reason(self) -> str:
        """Why rows are not packed, for a person."""
        if self.kind == "rows":
            return (
                "a row's score depends on the length of the rows beside it, so rows of one length are scored together"
            )
        return (
            f"its rotary positions ({self.kind}) depend on the length of a sequence beyond {self.limits[0]} tokens, so "
            f"such rows are scored apart; with cutoff_len: {self.limits[0]} rows are packed"
        )


def length_rule(config: Any) -> LengthRule | None:
    """The rule that a model's config describes; None where angles depend on the position alone."""
    text = config.get_text_config()
    limits: set[int] = set()
    kinds: set[str] = set()
    for parameters in rope_parameters(text):
        kind = str(parameters.get("rope_type", parameters.get("type", "default")))
        if kind in _LONG:
            at = parameters.get("original_max_position_embeddings") or getattr(
                text, "original_max_position_embeddings", None
            )
            kinds.add("longrope")
            limits.add(int(at or text.max_position_embeddings))
        elif "dynamic" in kind:
            kinds.add("dynamic")
            limits.add(int(text.max_position_embeddings))
    if not limits:
        return None
    return LengthRule(" and ".join(sorted(kinds)), tuple(sorted(limits)), "dynamic" in kinds)


def rope_parameters(text_config: Any) -> Iterator[Mapping[str, Any]]:
    """The config's rotary parameters: one mapping, or one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(text_config, name, None)
        if isinstance(found, Mapping) and found:
            nested = [value for value in found.values() if isinstance(value, Mapping)]
            yield from nested or [found]
            return


def forget_lengths(model: nn.Module) -> None:
    """Give dynamic NTK its angles of short sequences back: it keeps those of the longest that it has met."""
    for module in model.modules():
        for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith("original_inv_freq")]:
            prefix = name.removesuffix("original_inv_freq")
            if hasattr(module, "original_max_seq_len"):
                setattr(module, f"{prefix}inv_freq", getattr(module, name).clone())
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def apart(model: Any, forward: Callable[..., torch.Tensor], inputs: Mapping[str, Any]) -> torch.Tensor:
    """The forward pass of a batch in which no row's result depends on the others.

    Args:
        model: with its `length_rule`; where that is None this is `forward(**inputs)`.
        forward: inputs → [rows, width, n].
        inputs: input_ids, position_ids, attention_mask, each [rows, width], and what else the model takes; with
            `layout`, one packed row.

    Raises:
        ModelError: a packed row holds a sequence beyond the limit of the angles.
    """
    rule: LengthRule | None = model.length_rule
    if rule is None:
        return forward(**inputs)
    if rule.each:
        forget_lengths(model)
    layout = inputs.get("layout")
    if layout is not None:
        longest = max((span.prompt + max(span.completions, default=0) for span in layout.spans), default=0)
        if longest > rule.limits[0]:
            raise ModelError(f"a packed row holds {longest} tokens of one sequence: {rule.reason}")
        return forward(**inputs)
    input_ids, positions, mask = inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"]
    others = {name: value for name, value in inputs.items() if name not in _PER_ROW}
    width = input_ids.shape[1]
    ends = mask.sum(1).tolist()  # rows are padded on the right
    lengths = ((positions * mask).amax(1) + 1).tolist()
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows_of.setdefault(rule.angles(length), []).append(row)
    parts: list[torch.Tensor] = []
    for rows in rows_of.values():
        end = max(int(ends[row]) for row in rows)  # padding columns of longer rows would count as length
        if rule.each:
            forget_lengths(model)
        part = forward(
            input_ids=input_ids[rows, :end],
            position_ids=_within(positions[rows, :end], mask[rows, :end]),
            attention_mask=mask[rows, :end],
            **others,
        )
        parts.append(F.pad(part, (0, 0, 0, width - end)))
    order = [row for rows in rows_of.values() for row in rows]
    back = torch.tensor(order, device=input_ids.device).argsort()
    return torch.cat(parts)[back]


def _within(positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Positions in which padding counts no further than the row's last token, [rows, width]."""
    return torch.where(mask.bool(), positions, (positions * mask).amax(1, keepdim=True))


_PER_ROW = ("input_ids", "position_ids", "attention_mask")
