"""The load-balancing term of a mixture of experts (Switch Transformer, 2101.03961, equations 4 to 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from palate.text.batch import Batch


@dataclass(frozen=True, slots=True)
class RouterBalance:
    """How unevenly experts are used, E · Σ_e f_e · P_e, for each group separately.

    f_e is the share of tokens with expert e among their top k, P_e its mean probability, over a group's rows (prompt
    and completion) and all layers. transformers computes the same over whole batches; per group it does not depend on
    how a step is split into passes, and equals TRL's with one pair per batch.

    Attributes:
        coefficient: factor of the term in the loss.
        top_k: experts per token.
    """

    coefficient: float
    top_k: int

    def loss(self, router_logits: Sequence[Tensor], batch: Batch) -> Tensor:
        """float32 [G], of a tensor [tokens of the batch, E] for each layer with experts; at least top_k."""
        weights, owner = token_weights(batch)
        groups = len(batch.groups)
        counted = torch.zeros(groups, device=weights.device).index_add(0, owner, weights) * len(router_logits)
        used: Any = 0.0
        chosen: Any = 0.0
        for logits in router_logits:
            probabilities = logits.float().softmax(-1)  # [T, E]
            experts = probabilities.topk(self.top_k, dim=-1).indices
            hits = F.one_hot(experts, probabilities.shape[-1]).sum(1).float()
            empty = probabilities.new_zeros(groups, probabilities.shape[-1])
            used = used + empty.index_add(0, owner, hits * weights[:, None])
            chosen = chosen + empty.index_add(0, owner, probabilities * weights[:, None])
        shares = (used / counted[:, None]) * (chosen / counted[:, None])
        return shares.sum(-1) * shares.shape[-1]  # type: ignore[no-any-return]


def token_weights(batch: Batch) -> tuple[Tensor, Tensor]:
    """Weight and group of each token of the flattened batch: float32 [T] and int64 [T]."""
    device = batch.input_ids.device
    if batch.layout is None:
        width = batch.input_ids.shape[1]
        return batch.attention_mask.flatten().float(), batch.group_of.repeat_interleave(width)
    weights: list[float] = []
    owners: list[int] = []
    for number, span in enumerate(batch.layout.spans):
        weights += [float(len(span.completions))] * span.prompt + [1.0] * (span.end - span.start - span.prompt)
        owners += [number] * (span.end - span.start)
    return torch.tensor(weights, device=device), torch.tensor(owners, device=device)


def has_experts(model: Any) -> bool:
    """Whether the config describes a mixture of experts with a balancing term."""
    return isinstance(getattr(model.config.get_text_config(), "router_aux_loss_coef", None), int | float)


def router_balance(model: Any, coefficient: float | None) -> tuple[RouterBalance | None, str]:
    """The term of an unwrapped model with the scoring forward, or the reason why there is none ("" if none is wanted).

    A coefficient of None is the model's own, if its config has `output_router_logits` on, as in TRL.
    """
    config = model.config.get_text_config()
    if coefficient is None:
        wanted = has_experts(model) and getattr(config, "output_router_logits", False)
        coefficient = float(config.router_aux_loss_coef) if wanted else 0.0
    if coefficient == 0.0:
        return None, ""
    if not has_experts(model):
        return None, "the model has no experts"
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    decoder = decoder if hasattr(decoder, "_can_record_outputs") else model.base_model
    top_k = getattr(config, "num_experts_per_tok", None)
    if "router_logits" not in (getattr(decoder, "_can_record_outputs", None) or {}) or not isinstance(top_k, int):
        return None, f"{type(model).__name__} does not give its routers' outputs"
    if model.length_rule is not None or (hasattr(model, "head") and model.head.original):
        return None, f"the rows of {type(model).__name__} are not scored in one pass"
    return RouterBalance(coefficient, top_k), ""
