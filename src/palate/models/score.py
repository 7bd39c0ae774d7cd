"""Log-probabilities of trained tokens only.

`install` replaces a model's forward before PEFT, accelerate and Trainer wrap it: given `target_index` it returns
`TokenLogps` instead of logits. The hidden states at the targets go through the LM head in chunks, so no
[tokens, vocabulary] tensor outlives a chunk, forward or backward. Log-sum-exp is float32 in every precision.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from palate.models.cpu.head import plain_head_logps
from palate.models.precision import compute_dtype
from palate.models.rotary import forward_by_length, length_rule
from palate.models.trunk import TrunkCache, TrunkRun
from palate.models.upstream import active_module
from palate.models.value_head import values_of
from palate.text.batch import Batch, Layout

# Elements of a chunk [rows, vocabulary]: large enough for the matmul's peak rate, small enough for the caches.
CHUNK_ELEMENTS = 1 << 23

T = TypeVar("T")


class TokenLogps(NamedTuple):
    """Scores of the trained tokens, float32 [M], in the order of `Batch.target_ids`.

    Attributes:
        logps: log π of the token.
        log_square_sums: log Σ_v π(v)² of the distribution that the token came from, without gradient; None unless
            requested.
        values: value of the state in which the token was chosen; None without a value head (`models.value_head`).
        router_logits: one tensor for each layer with experts, [tokens of the batch, E]; None unless requested.
    """

    logps: torch.Tensor
    log_square_sums: torch.Tensor | None = None
    values: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class Logps:
    """Per-completion log-probabilities.

    Attributes:
        sums: float32 [C], Σ log π over the completion's trained tokens.
        tokens: float32 [C], number of those tokens.
        token_logps: float32 [M], the terms of the sums.
        log_square_sums: float32 [M], log Σ_v π(v)² at each of those tokens; None unless requested.
        values: float32 [M], the value head's output for each of those tokens; None without one.
    """

    sums: torch.Tensor
    tokens: torch.Tensor
    token_logps: torch.Tensor
    log_square_sums: torch.Tensor | None = None
    values: torch.Tensor | None = None

    @property
    def means(self) -> torch.Tensor:
        """float32 [C], per-token means; 0 for a completion without trained tokens."""
        return self.sums / self.tokens.clamp(min=1)


class Owners(Protocol):
    """Assigns trained tokens [M] to completions [C]: a `Batch`, or all batches of a step."""

    @property
    def completion_of(self) -> torch.Tensor: ...

    @property
    def completions(self) -> int: ...


def per_completion(tokens: TokenLogps, batch: Owners) -> Logps:
    """Sum token log-probabilities [M] into their completions [C]."""
    zeros = tokens.logps.new_zeros(batch.completions)
    counts = zeros.index_add(0, batch.completion_of, torch.ones_like(tokens.logps))
    sums = zeros.index_add(0, batch.completion_of, tokens.logps)
    return Logps(sums, counts, tokens.logps, tokens.log_square_sums, tokens.values)


def score(call: Callable[..., T], batch: Batch, trunk: TrunkCache | None) -> T:
    """The output of one forward pass; the trunk cache supplies the frozen layers' output, or records it."""
    if not trunk:
        return call(**batch.model_inputs())
    run = trunk.run(batch)
    output = call(**batch.model_inputs(), trunk=run)
    trunk.keep(batch, run)
    return output


@dataclass(frozen=True, slots=True)
class Head:
    """How an architecture turns the last hidden state into logits: softcap(scale · (W h + b)).

    Attributes:
        scale: factor on the logits (Granite divides by `logits_scaling`, Cohere multiplies by `logit_scale` …).
        softcap: c in c·tanh(logits / c) (Gemma 2), or None.
        stock: True if this form is not exact for the model; then its own forward computes the logits.
    """

    scale: float = 1.0
    softcap: float | None = None
    stock: bool = False


def head_of(model: Any) -> Head:
    """The head's transform as the config describes it; the probe at load compares it with the model's own logits."""
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logits_scaling", None):
        # Granite divides and HyperCLOVAX multiplies under the same key.
        value = float(config.logits_scaling)
        scale = value if "hyperclovax" in config.model_type else 1.0 / value
    for key in ("logit_scale", "lm_head_multiplier"):
        if isinstance(getattr(config, key, None), int | float):
            scale *= float(getattr(config, key))
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(scale=scale, softcap=float(softcap) if softcap else None)


def install(model: Any, head: Head) -> None:
    """Give a causal LM the scoring forward. Calls without `target_index` still reach the stock forward.

    Args:
        head: its transform of hidden states into logits.
    """
    if not hasattr(model, "stock_forward"):
        model.stock_forward = model.forward
    model.head = head
    if not hasattr(model, "length_rule"):  # the probe may have set a stricter one
        model.length_rule = length_rule(model.config)
    model.forward = types.MethodType(_scoring_forward, model)


def _scoring_forward(
    self: Any,
    input_ids: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    layout: Layout | None = None,
    target_index: torch.Tensor | None = None,
    target_ids: torch.Tensor | None = None,
    trunk: TrunkRun | None = None,
    square_sums: bool = False,
    routers: bool = False,
    **kwargs: Any,
) -> Any:
    """`TokenLogps` of the targets, with `square_sums` and `routers` if requested; without targets, the stock output."""
    inputs: dict[str, Any] = {"input_ids": input_ids, "position_ids": position_ids, "attention_mask": attention_mask}
    if target_index is None or target_ids is None:
        if getattr(self.config, "output_router_logits", False):
            # The stock forward would compute a balancing loss, whose mask does not fit tokens decoded one by one.
            kwargs["output_router_logits"] = False
        return self.stock_forward(**inputs, **kwargs)
    # PEFT passes its own keywords as None; only keywords with a value may reach the decoder.
    inputs |= {name: value for name, value in kwargs.items() if value is not None}
    if layout is not None:
        inputs["layout"] = layout
    if self.head.stock:
        return _dense(logits_at(self, inputs, target_index), target_ids, square_sums)
    with trunk.installed() if trunk is not None else contextlib.nullcontext():
        hidden, routed = (
            _routed(self, inputs, target_index) if routers else (states_at(self, inputs, target_index), None)
        )
    values = values_of(self, hidden)
    output = active_module(self.get_output_embeddings())
    scale, softcap = self.head.scale, self.head.softcap
    if type(output) is not nn.Linear:  # a head with an adapter computes its own logits
        dense = _dense(transformed(output(hidden).float(), scale, softcap), target_ids, square_sums)
        return dense._replace(values=values, router_logits=routed)
    logps = head_logps(hidden, output.weight, output.bias, target_ids, scale=scale, softcap=softcap)
    squares = None
    if square_sums:
        squares = head_square_sums(hidden, output.weight, output.bias, scale=scale, softcap=softcap)
    return TokenLogps(logps, squares, values, routed)


def _routed(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Like `states_at`, with the router logits [tokens, E] of each layer with experts."""
    output = model.get_decoder()(**inputs, use_cache=False, output_router_logits=True)
    return output.last_hidden_state.flatten(0, 1)[index], tuple(output.router_logits)


def states_at(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> torch.Tensor:
    """The decoder's hidden states [M, H] at offsets [M] of the flattened batch."""
    decoder = model.get_decoder()
    states = forward_by_length(model, lambda **given: decoder(**given, use_cache=False).last_hidden_state, inputs)
    return states.flatten(0, 1)[index]


def logits_at(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> torch.Tensor:
    """The stock forward's logits [M, V] at offsets [M] of the flattened batch."""
    logits = forward_by_length(model, lambda **given: model.stock_forward(**given, use_cache=False).logits, inputs)
    return logits.flatten(0, 1)[index]


def _dense(logits: torch.Tensor, target_ids: torch.Tensor, square_sums: bool) -> TokenLogps:
    """Scores [M] from all logits [M, V]."""
    return TokenLogps(dense_logps(logits, target_ids), _square_sums(logits.detach().float()) if square_sums else None)


def dense_logps(logits: torch.Tensor, target_ids: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[target] per row: float32 [M] from logits [M, V]. The definition, without chunks."""
    return F.log_softmax(logits.float(), dim=-1).gather(-1, target_ids[:, None]).squeeze(-1)


def head_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target_ids: torch.Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """log softmax(softcap(scale · (h Wᵀ + b)))[target], in chunks.

    Args:
        hidden: [M, H].
        weight: [V, H].
        bias: [V] or None.
        target_ids: int64 [M].
        scale: factor on the logits.
        softcap: bound of the logits.

    Returns:
        float32 [M].
    """
    compute = compute_dtype(hidden, weight)
    if hidden.device.type == "cpu" and scale == 1.0 and softcap is None:
        return plain_head_logps(hidden, weight, bias, target_ids, compute)
    return _HeadLogps.apply(hidden, weight, bias, target_ids, scale, softcap, compute)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def head_square_sums(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """log Σ_v p_v² of the distribution at each row, float32 [M], in chunks and without gradient.

    Arguments as in `head_logps`. A separate product, because only one modifier (WPO, 2406.11827) reads it.
    """
    compute = compute_dtype(hidden, weight)
    sums = hidden.new_empty(len(hidden), dtype=torch.float32)
    h, w = hidden.to(compute), weight.to(compute)
    b = None if bias is None else bias.to(compute)
    for rows in row_chunks(len(h), len(w)):
        sums[rows] = _square_sums(_chunk_logits(h[rows], w, b, scale, softcap))
    return sums


def _square_sums(logits: torch.Tensor) -> torch.Tensor:
    """log Σ softmax(logits)² per row, [M] from float32 [M, V]."""
    return (2.0 * logits).logsumexp(-1) - 2.0 * logits.logsumexp(-1)


class _HeadLogps(torch.autograd.Function):
    """The head on GPUs, and with scaled or capped logits: backward computes each chunk again and saves no logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target_ids: torch.Tensor,
        scale: float,
        softcap: float | None,
        compute: torch.dtype,
    ) -> torch.Tensor:
        h, w = hidden.to(compute), weight.to(compute)
        b = None if bias is None else bias.to(compute)
        ctx.save_for_backward(h, w, b, target_ids)
        ctx.transform = (scale, softcap)
        logps = hidden.new_empty(len(h), dtype=torch.float32)
        for rows in row_chunks(len(h), len(w)):
            logps[rows] = _chunk_logps(h[rows], w, b, target_ids[rows], scale, softcap)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, w, b, target_ids = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        # Sums over chunks are float32; the product of one chunk is in the compute precision.
        sums = [
            torch.zeros(tensor.shape, dtype=torch.float32, device=h.device) if need else None
            for tensor, need in zip((h, w, b), needs, strict=True)
        ]
        for rows in row_chunks(len(h), len(w)):
            parts: list[Any] = [
                None if tensor is None else tensor.detach().requires_grad_(need)
                for tensor, need in zip((h[rows], w, b), needs, strict=True)
            ]
            with torch.enable_grad():
                logps = _chunk_logps(parts[0], parts[1], parts[2], target_ids[rows], *ctx.transform)
            wanted = [tensor for tensor, need in zip(parts, needs, strict=True) if need]
            grads = iter(torch.autograd.grad(logps, wanted, grad[rows]))
            # A chunk has its own rows of h, but adds to all of w and b.
            for total, slot in zip(sums, (rows, slice(None), slice(None)), strict=True):
                if total is not None:
                    total[slot] += next(grads)
        return *sums, None, None, None, None


def _chunk_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target_ids: torch.Tensor,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """float32 [m] of one chunk: hidden [m, H], weight [V, H], bias [V], target_ids [m]."""
    logits = _chunk_logits(hidden, weight, bias, scale, softcap)
    return logits.gather(-1, target_ids[:, None]).squeeze(-1) - logits.logsumexp(dim=-1)


def _chunk_logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float, softcap: float | None
) -> torch.Tensor:
    """float32 [m, V] from hidden [m, H] in the compute dtype."""
    with torch.autocast(hidden.device.type, enabled=False):
        return transformed(F.linear(hidden, weight, bias).float(), scale, softcap)


def transformed(logits: torch.Tensor, scale: float, softcap: float | None) -> torch.Tensor:
    """softcap · tanh(scale · logits / softcap) [m, V]; without a scale or softcap, that step is skipped."""
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits


def row_chunks(rows: int, vocabulary: int) -> list[slice]:
    """Even slices of at most CHUNK_ELEMENTS / vocabulary rows (at least one)."""
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    count = -(-rows // size)
    return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]
