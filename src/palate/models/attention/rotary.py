"""Rotary positions (2104.09864) that depend on the sequence length: LongRoPE (2402.13753) and dynamic NTK scaling.

transformers takes the length from the longest row of a batch, and dynamic NTK also from earlier batches, so a row's
score would depend on other rows. Here rows with different angles are computed in separate passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.errors import ModelError

_LONG = {"longrope", "su"}  # two sets of angles: up to a length, and beyond
_PER_ROW = ("input_ids", "position_ids", "attention_mask")


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How a model's rotary angles depend on the length of a sequence.

    Attributes:
        kind: `longrope` or `dynamic`, or `rows` for a model whose rows must be scored separately for another reason.
        limits: lengths beyond which the angles change, ascending.
        each: whether every length beyond the first limit has different angles.
    """

    kind: str
    limits: tuple[int, ...]
    each: bool

    def angles(self, length: int) -> int:
        """A number that is equal for lengths with the same angles."""
        if self.each:
            return max(length, self.limits[0])
        return sum(length > limit for limit in self.limits)

    @property
    def reason(self) -> str:
        """Why rows are not packed, for messages."""
        if self.kind == "rows":
            return "a row's score depends on the length of other rows in its batch, so its batches have one length"
        return (
            f"its rotary positions ({self.kind}) depend on the length of a sequence beyond {self.limits[0]} tokens, so "
            f"rows are scored in separate passes; with cutoff_len: {self.limits[0]} rows are packed"
        )


def length_rule(config: Any) -> LengthRule | None:
    """The rule in a model's config; None if angles depend on the position only."""
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
    """The config's rotary parameters: one mapping, or one per kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(text_config, name, None)
        if isinstance(found, Mapping) and found:
            nested = [value for value in found.values() if isinstance(value, Mapping)]
            yield from nested or [found]
            return


def reset_rope_lengths(model: nn.Module) -> None:
    """Reset dynamic NTK to the angles of short sequences; it keeps those of the longest sequence so far."""
    for module in model.modules():
        for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith("original_inv_freq")]:
            prefix = name.removesuffix("original_inv_freq")
            if hasattr(module, "original_max_seq_len"):
                setattr(module, f"{prefix}inv_freq", getattr(module, name).clone())
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def forward_by_length(model: Any, forward: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
    """The forward pass of a batch in which no row's result depends on other rows.

    Args:
        model: with its `length_rule`; if that is None, this is `forward(**inputs)`.
        forward: inputs → [rows, width, n].
        inputs: input_ids, position_ids, attention_mask, each [rows, width], and other keywords; with `layout`, one
            packed row.

    Raises:
        ModelError: a packed row has a sequence beyond the limit of the angles.
    """
    rule: LengthRule | None = model.length_rule
    if rule is None:
        return forward(**inputs)
    if rule.each:
        reset_rope_lengths(model)
    layout = inputs.get("layout")
    if layout is not None:
        longest = max((span.prompt + max(span.completions, default=0) for span in layout.spans), default=0)
        if longest > rule.limits[0]:
            raise ModelError(f"a packed row has a sequence of {longest} tokens: {rule.reason}")
        return forward(**inputs)
    input_ids, positions, mask = inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"]
    others = {name: value for name, value in inputs.items() if name not in _PER_ROW}
    width = input_ids.shape[1]
    ends = mask.sum(1).tolist()  # rows are padded on the right
    lengths = ((positions * mask).amax(1) + 1).tolist()
    # Positions of padding would count as length, so they repeat the row's last one.
    positions = torch.where(mask.bool(), positions, (positions * mask).amax(1, keepdim=True))
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows_of.setdefault(rule.angles(length), []).append(row)
    parts: list[Tensor] = []
    for rows in rows_of.values():
        end = max(int(ends[row]) for row in rows)  # padding columns of longer rows would count as length
        if rule.each:
            reset_rope_lengths(model)
        part = forward(
            input_ids=input_ids[rows, :end],
            position_ids=positions[rows, :end],
            attention_mask=mask[rows, :end],
            **others,
        )
        parts.append(F.pad(part, (0, 0, 0, width - end)))
    order = [row for rows in rows_of.values() for row in rows]
    back = torch.tensor(order, device=input_ids.device).argsort()
    return torch.cat(parts)[back]
