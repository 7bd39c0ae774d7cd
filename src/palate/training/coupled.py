"""Objectives that compare the groups of a step with each other: the whole step is scored before the backward passes.

Such a loss is a function of the log-probabilities of the whole step: all micro-batches, accumulation batches and ranks
(aot sorts them, kto and bco average them). All log-probabilities are computed once without gradient and gathered. The
loss and dL/dlogp are computed on the gathered values, and each micro-batch then back-propagates
Σ logp · stopgrad(dL/dlogp). This gives the exact gradient of the step's loss, however the step is split.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from palate.models.reference.kinds import Reference
from palate.models.scoring.logps import Logps, TokenLogps
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.methods.base import LossOutput, Method
from palate.training.parts import Part, gathered


@dataclass(frozen=True, slots=True)
class Backward:
    """One forward and backward pass.

    Attributes:
        batch: scored again, with gradient.
        gradient: float32 [M], d(the step's mean loss)/dlogp of its trained tokens.
    """

    batch: Batch
    gradient: torch.Tensor


@dataclass(frozen=True, slots=True)
class CoupledBatch:
    """One DataLoader batch of a coupled step, ready for its backward passes.

    Attributes:
        groups: in the order of `output` and `weights`.
        output: losses and metrics of the groups; 0 and NaN for those of weight 0.
        weights: float32 [G].
        passes: never empty, because every rank must take part in the gradient exchange.
    """

    groups: tuple[EncodedGroup, ...]
    output: LossOutput
    weights: torch.Tensor
    passes: list[Backward]


@dataclass(frozen=True, slots=True)
class CoupledLoss:
    """A method's loss over all groups of a step, or of an evaluation.

    Attributes:
        method: a method with `couples_batch`.
        forward: computes the policy's token log-probabilities [M] of a batch.
        reference: None if the method needs none.
        split: divides groups into batches within the token budget.
        device: device of this rank.
        trims: leave out completions without a gradient, which may give ranks different numbers of passes.
    """

    method: Method[Logps]
    forward: Callable[[nn.Module, Batch], TokenLogps]
    reference: Reference | None
    split: Callable[[Sequence[EncodedGroup]], list[Batch]]
    device: torch.device
    trims: bool = True

    def step(self, model: nn.Module, lists: Sequence[Sequence[EncodedGroup]]) -> list[CoupledBatch]:
        """Score this rank's DataLoader batches of a step; returns the backward passes of each.

        Every rank calls it at the same time.
        """
        before = random_state(self.device)
        # One list of micro-batches for each DataLoader batch.
        split = [[batch.to(self.device) for batch in self.split(groups)] for groups in lists]
        part = self._scored(model, [batch for batches in split for batch in batches])
        draws_random = random_state(self.device) != before
        # The passes with gradient must draw the same dropout masks.
        set_random_state(before, self.device)
        output, gradient = self._losses_and_gradient(part, training=True)
        pieces = iter(torch.split(gradient, [batch.target_ids.numel() for batches in split for batch in batches]))
        coupled: list[CoupledBatch] = []
        start = 0
        for batches in split:
            passes = [Backward(batch, next(pieces)) for batch in batches]
            groups = tuple(group for batch in batches for group in batch.groups)
            rows = slice(start, start + len(groups))
            metrics = {name: value[rows] for name, value in output.metrics.items()}
            own = LossOutput(output.loss[rows], metrics)
            # Repacked batches would draw other dropout masks, so with dropout the passes stay as they are.
            passes = self._trimmed(passes) if self.trims and not draws_random else passes
            coupled.append(CoupledBatch(groups, own, part.weights[rows], passes))
            start = rows.stop
        return coupled

    def evaluate(self, model: nn.Module, groups: Sequence[EncodedGroup]) -> tuple[LossOutput, torch.Tensor]:
        """Losses, metrics and weights [G] of this rank's held-out groups; the loss compares the groups of all ranks."""
        part = self._scored(model, [batch.to(self.device) for batch in self.split(groups)])
        return self._losses_and_gradient(part, training=False)[0], part.weights

    def _scored(self, model: nn.Module, batches: Sequence[Batch]) -> Part:
        """This rank's part of the step: batches scored by policy and reference, without gradient."""
        with torch.no_grad():
            policy = [self.forward(model, batch) for batch in batches]
        reference = self.reference.logps(batches) if self.reference is not None else [None] * len(batches)
        weights = [self.method.traits.weights(batch) for batch in batches]
        return Part.joined(map(Part.of, batches, weights, policy, reference))

    def _losses_and_gradient(self, part: Part, *, training: bool) -> tuple[LossOutput, torch.Tensor]:
        """Losses and metrics of this rank's groups, and d(mean loss)/dlogp [M] of their tokens, in the part's order.

        The loss is computed over the groups of all ranks; groups of weight 0 get loss 0 and gradient 0.
        """
        parts, rank = gathered(part.counted())
        whole = Part.joined(parts).to(self.device)
        with torch.enable_grad():
            leaf = whole.logps.clone().requires_grad_()
            policy, reference = whole.policy_logps(leaf), whole.reference_logps()
            output = self.method.loss(policy, reference, whole, training=training)
            mean = (output.loss * whole.weights).sum() / whole.weights.sum()
            [gradient] = torch.autograd.grad(mean, leaf)
        first_group = sum(len(earlier.groups) for earlier in parts[:rank])
        first_token = sum(earlier.logps.numel() for earlier in parts[:rank])
        groups = slice(first_group, first_group + len(parts[rank].groups))
        tokens = slice(first_token, first_token + parts[rank].logps.numel())
        counts = part.weights > 0
        metrics = {name: _scatter(value[groups], counts, torch.nan) for name, value in output.metrics.items()}
        return (
            LossOutput(_scatter(output.loss.detach()[groups], counts, 0.0), metrics),
            _scatter(gradient[tokens], counts[part.group_of][part.completion_of], 0.0),
        )

    def _trimmed(self, passes: list[Backward]) -> list[Backward]:
        """The passes without the completions whose gradient is 0 (kto's mismatched ones), repacked."""
        kept: list[EncodedGroup] = []
        gradients: dict[int, torch.Tensor] = {}
        dropped = False
        for backward in passes:
            batch, gradient = backward.batch, backward.gradient
            owner, completions = batch.completion_of, batch.completions
            pieces = iter(torch.split(gradient, torch.bincount(owner, minlength=completions).tolist()))
            size = gradient.new_zeros(completions).index_add(0, owner, gradient.abs())
            has_gradient = iter((size > 0).tolist())
            for group in batch.groups:
                rows = [(completion, next(pieces), next(has_gradient)) for completion in group.completions]
                wanted = [(completion, piece) for completion, piece, needed in rows if needed]
                dropped = dropped or len(wanted) < len(rows)
                if wanted:
                    trimmed = replace(group, completions=tuple(completion for completion, _ in wanted))
                    kept.append(trimmed)
                    gradients[id(trimmed)] = torch.cat([piece for _, piece in wanted])
        if not dropped:
            return passes
        if not kept:  # ranks must run backward at least once
            return passes[:1]
        batches = [batch.to(self.device) for batch in self.split(kept)]
        return [Backward(batch, torch.cat([gradients[id(group)] for group in batch.groups])) for batch in batches]


def _scatter(values: torch.Tensor, where: torch.Tensor, rest: float) -> torch.Tensor:
    """Put `values` [k] where `where` [n] is true and `rest` elsewhere, [n]."""
    full = torch.full(where.shape, rest, dtype=values.dtype, device=values.device)
    full[where] = values
    return full


def random_state(device: torch.device) -> list[bytes]:
    """The states of the torch random generators that a step uses."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return [state.numpy().tobytes() for state in states]


def same_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A context that restores the random state at its end, so that an evaluation does not change later dropout masks.

    A DataLoader's iterator draws random numbers too.
    """
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def set_random_state(state: Sequence[bytes], device: torch.device) -> None:
    """Restore a result of `random_state`."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in state]
    torch.set_rng_state(tensors[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors[1], device)
