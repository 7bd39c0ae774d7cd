"""Log-probabilities where something is trained, and nowhere else.

`install` replaces the model's own forward, before PEFT, accelerate and Trainer wrap it: given `target_index` it returns
`TokenLogps` instead of logits. Hidden states at the targets go through the LM head in chunks, so no
[tokens, vocabulary] tensor outlives a chunk, in either direction; log-sum-exp is float32 whatever the precision.
"""

from __future__ import annotations

import contextlib
import types
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from peft.utils import ModulesToSaveWrapper
from torch import nn

from palate.models.casts import compute_dtype
from palate.models.cpu.head import plain_head_logps
from palate.models.probe.rotary import apart, length_rule
from palate.models.trunk import TrunkRun
from palate.models.value_head import values_of
from palate.text.batch import Layout

# Rows of [chunk, vocabulary] that exist at a time: large enough for the matmul's peak, small against the caches.
CHUNK_ELEMENTS = 1 << 23


class TokenLogps(NamedTuple):
    """What a model says of each trained token, float32 [M], in the order of `Batch.target_ids`.

    Attributes:
        logps: log π of the token.
        log_square_sums: log Σ_v π(v)² over the vocabulary at its place, without gradient; None unless asked for.
        values: of the state in which the token was chosen; None without a value head (`models.value_head`).
        router_logits: of each layer with experts, [tokens of the batch, E]; None unless asked for.
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
        tokens: float32 [C], how many trained tokens that is.
        token_logps: float32 [M], the terms of the sums.
        log_square_sums: float32 [M], log Σ_v π(v)² at each of those tokens; None unless asked for.
        values: float32 [M], the value head's output for each of those tokens; None without one.
    """

    sums: torch.Tensor
    tokens: torch.Tensor
    token_logps: torch.Tensor
    log_square_sums: torch.Tensor | None = None
    values: torch.Tensor | None = None

    @property
    def means(self) -> torch.Tensor:
        """float32 [C], per-token means; 0 where nothing is trained."""
        return self.sums / self.tokens.clamp(min=1)


class Owners(Protocol):
    """Whose each trained token is: a `Batch` says so, and so does a whole step of them."""

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


@dataclass(frozen=True, slots=True)
class Head:
    """How an architecture turns the last hidden state into logits: softcap(scale · (W h + b)).

    Attributes:
        scale: factor on the logits (Granite divides by `logits_scaling`, Cohere multiplies by `logit_scale` …).
        softcap: c in c·tanh(logits / c) (Gemma 2), or None.
        stock: True where this form was not exact for the model: its own forward computes the logits instead.
    """

    scale: float = 1.0
    softcap: float | None = None
    stock: bool = False


def head_of(model: Any) -> Head:
    """The transform that the model's config describes; the load probe checks it against the model's own logits."""
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
    """Give the causal LM the scoring forward. Calls without `target_index` still reach the stock forward.

    Args:
        model: a causal LM of transformers, unwrapped.
        head: how its logits come about.
    """
    if not hasattr(model, "stock_forward"):
        model.stock_forward = model.forward
    model.head = head
    if not hasattr(model, "length_rule"):  # what the probe found stays
        model.length_rule = length_rule(model.config)
    model.forward = types.MethodType(_scoring_forward, model)


def uninstall(model: nn.Module) -> None:
    """Give the stock forward back."""
    if "stock_forward" in model.__dict__:
        for name in ("stock_forward", "head", "forward", "length_rule"):
            del model.__dict__[name]


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
    """Score targets, or behave like the stock forward when there are none to score.

    With `square_sums` and `routers` also what `TokenLogps` has of these.
    """
    if target_index is None or target_ids is None:
        if getattr(self.config, "output_router_logits", False):
            # The stock forward would take a balancing term over tokens that are decoded one by one, and fail.
            kwargs = {**kwargs, "output_router_logits": False}
        return self.stock_forward(
            input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, **kwargs
        )
    # PEFT fills in its own keywords; only those that were really given may reach the decoder.
    given = {name: value for name, value in kwargs.items() if value is not None}
    if layout is not None:
        given["layout"] = layout
    inputs = {"input_ids": input_ids, "position_ids": position_ids, "attention_mask": attention_mask, **given}
    if self.head.stock:
        return _dense(logits_at(self, inputs, target_index), target_ids, square_sums)
    with trunk.installed() if trunk is not None else contextlib.nullcontext():
        hidden, routed = (
            _routed(self, inputs, target_index) if routers else (states_at(self, inputs, target_index), None)
        )
    values = values_of(self, hidden)
    output = active_module(self.get_output_embeddings())
    scale, softcap = self.head.scale, self.head.softcap
    if type(output) is nn.Linear:
        logps = head_logps(hidden, output.weight, output.bias, target_ids, scale=scale, softcap=softcap)
        squares = None
        if square_sums:
            squares = head_square_sums(hidden, output.weight, output.bias, scale=scale, softcap=softcap)
        return TokenLogps(logps, squares, values, routed)
    # A wrapped head (an adapter on it) computes its own logits.
    dense = _dense(transformed(output(hidden).float(), scale, softcap), target_ids, square_sums)
    return dense._replace(values=values, router_logits=routed)


def _routed(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """As `states_at`, with the routers' logits of each layer that has experts."""
    output = model.get_decoder()(**inputs, use_cache=False, output_router_logits=True)
    return output.last_hidden_state.flatten(0, 1)[index], tuple(output.router_logits)


def states_at(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> torch.Tensor:
    """The decoder's hidden states [M, H] at places [M] of the flattened batch."""
    decoder = model.get_decoder()
    return apart(model, lambda **given: decoder(**given, use_cache=False).last_hidden_state, inputs).flatten(0, 1)[
        index
    ]


def logits_at(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> torch.Tensor:
    """The stock forward's logits [M, V] at places [M] of the flattened batch."""
    return apart(model, lambda **given: model.stock_forward(**given, use_cache=False).logits, inputs).flatten(0, 1)[
        index
    ]


def active_module(module: Any) -> Any:
    """What computes now: under PEFT the copy of the module that trains, or the original where adapters are off."""
    if not isinstance(module, ModulesToSaveWrapper):
        return module
    off = module.disable_adapters or not module.active_adapters
    return module.original_module if off else module.modules_to_save[module.active_adapters[0]]


def _dense(logits: torch.Tensor, target_ids: torch.Tensor, square_sums: bool) -> TokenLogps:
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

    Args: as of `head_logps`. It is a product of its own, for the one modifier that reads it (WPO).
    """
    compute = compute_dtype(hidden, weight)
    sums = hidden.new_empty(len(hidden), dtype=torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        h, w = hidden.to(compute), weight.to(compute)
        b = None if bias is None else bias.to(compute)
        for rows in row_chunks(len(h), weight.shape[0]):
            sums[rows] = _square_sums(transformed(F.linear(h[rows], w, b).float(), scale, softcap))
    return sums


def _square_sums(logits: torch.Tensor) -> torch.Tensor:
    """log Σ softmax(logits)² per row, [M] from float32 [M, V]."""
    return (2.0 * logits).logsumexp(-1) - 2.0 * logits.logsumexp(-1)


class _HeadLogps(torch.autograd.Function):
    """Recomputes each chunk's logits in backward: the saved state is the log-sum-exp [M]."""

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
        with torch.autocast(hidden.device.type, enabled=False):
            h, w = hidden.to(compute), weight.to(compute)
            b = None if bias is None else bias.to(compute)
            lse = hidden.new_empty(len(h), dtype=torch.float32)
            logps = torch.empty_like(lse)
            for rows in row_chunks(len(h), weight.shape[0]):
                logits = transformed(F.linear(h[rows], w, b).float(), scale, softcap)
                lse[rows] = logits.logsumexp(dim=-1)
                logps[rows] = logits.gather(-1, target_ids[rows, None]).squeeze(-1) - lse[rows]
        ctx.save_for_backward(h, w, b, target_ids, lse)
        ctx.transform = (scale, softcap)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype if bias is not None else None)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, w, b, target_ids, lse = ctx.saved_tensors
        scale, softcap = ctx.transform
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        grad_h = torch.empty_like(h) if need_h else None
        # Sums over chunks are kept in float32; each chunk's own product is in the compute precision.
        grad_w = torch.zeros(w.shape, dtype=torch.float32, device=w.device) if need_w else None
        grad_b = torch.zeros(w.shape[0], dtype=torch.float32, device=w.device) if need_b else None
        with torch.autocast(h.device.type, enabled=False):
            for rows in row_chunks(len(h), w.shape[0]):
                logits = transformed(F.linear(h[rows], w, b).float(), scale, softcap)
                bend = None if softcap is None else 1 - (logits / softcap).square()
                # d logp / d logits = onehot(target) − softmax
                d = logits.sub_(lse[rows, None]).exp_().neg_()
                d.scatter_add_(-1, target_ids[rows, None], torch.ones_like(lse[rows, None]))
                d.mul_(grad[rows, None] * scale)
                if bend is not None:
                    d.mul_(bend)
                d = d.to(h.dtype)
                if grad_h is not None:
                    grad_h[rows] = d @ w
                if grad_w is not None:
                    grad_w += d.T @ h[rows]
                if grad_b is not None:
                    grad_b += d.sum(0, dtype=torch.float32)
        hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
        return (
            grad_h.to(hidden_dtype) if grad_h is not None else None,
            grad_w.to(weight_dtype) if grad_w is not None else None,
            grad_b.to(bias_dtype) if grad_b is not None else None,
            None,
            None,
            None,
            None,
        )


def transformed(logits: torch.Tensor, scale: float, softcap: float | None) -> torch.Tensor:
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
