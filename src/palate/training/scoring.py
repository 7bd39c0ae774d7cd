"""The forward pass over a batch: policy scores, reference scores and the method's loss."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from palate.models.reference.kinds import Reference
from palate.models.reward.head import Rewards
from palate.models.scoring.forward import score
from palate.models.scoring.logps import Logps, TokenLogps, per_completion
from palate.models.scoring.trunk import TrunkCache
from palate.models.tuning.experts import RouterBalance
from palate.models.tuning.neftune import EmbeddingNoise
from palate.text.batch import Batch
from palate.training.methods.base import LossOutput, Method


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The loss of a batch.

    Attributes:
        output: losses and metrics, [groups].
        weights: each group's weight in the mean over the step, [groups].
        balancing: what the load-balancing term adds to Σ w·loss, scalar; 0 without the term, and in evaluation.
    """

    output: LossOutput
    weights: torch.Tensor
    balancing: torch.Tensor | float


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores batches with the policy and its reference.

    Attributes:
        method: computes the loss.
        reference: None if the method needs none, or uses it when sampling (online methods).
        trunk: a cache of the frozen bottom layers' outputs, or None.
        balance: the load-balancing term of a mixture of experts, or None.
        noise: NEFTune noise on the embeddings in training passes, or None.
    """

    method: Method[Any]
    reference: Reference | None
    trunk: TrunkCache | None
    balance: RouterBalance | None
    noise: EmbeddingNoise | None

    def forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        """The model's output on a batch, with the log-probabilities of its trained tokens, [M]."""
        inputs = self.method.traits.inputs(batch)
        if self.balance is not None and torch.is_grad_enabled():
            inputs = {**inputs, "routers": True}
        noise = self.noise if model.training else None
        with noise.on(batch) if noise is not None else contextlib.nullcontext():
            return score(functools.partial(model, **inputs), batch, self.trunk)

    def references(self, batches: Sequence[Batch]) -> list[Logps | None]:
        """The reference's log-probabilities of each batch; None without a reference."""
        if self.reference is None:
            return [None] * len(batches)
        return [per_completion(tokens, batch) for tokens, batch in zip(self.reference.logps(batches), batches)]

    def loss(self, model: torch.nn.Module, batch: Batch, reference: Logps | None) -> BatchLoss:
        """Losses and weights of a batch's groups, and the load-balancing term."""
        scored = self.forward(model, batch)
        output = self.method.loss(policy_scores(scored, batch), reference, batch)
        weights = self.method.traits.weights(batch)
        # A repeated row of weight 0 must not count even if its loss is not finite.
        loss = torch.where(weights > 0, output.loss, torch.zeros_like(output.loss))
        balancing, metrics = self.balancing(scored, batch, weights)
        return BatchLoss(replace(output, loss=loss, metrics={**output.metrics, **metrics}), weights, balancing)

    def balancing(
        self, scored: Any, batch: Batch, weights: torch.Tensor
    ) -> tuple[torch.Tensor | float, dict[str, torch.Tensor]]:
        """What the load-balancing term adds to Σ w·loss, scalar, and its metric, [groups]; 0 and {} in evaluation."""
        if self.balance is None or scored.router_logits is None:
            return 0.0, {}
        imbalance = self.balance.loss(scored.router_logits, batch)
        return self.balance.coefficient * (imbalance * weights).sum(), {"aux_loss": imbalance.detach()}


def policy_scores(output: TokenLogps | Rewards, batch: Batch) -> Any:
    """Convert a model output to the input of a method's loss: `Logps`, or the reward of each completion, [C]."""
    return output.rewards if isinstance(output, Rewards) else per_completion(output, batch)
