"""Objectives that compare the groups of a step with each other: score the whole step first, then go backward.

Such a loss is a function of the log-probabilities of the whole step: all micro-batches, accumulation batches and ranks
(aot sorts them, kto and bco average them). They are computed once without gradient and gathered. The loss and dL/dlogp
are computed on the gathered values, and each micro-batch then back-propagates Σ logp · stopgrad(dL/dlogp). That is the
exact gradient of the step's loss for any split of the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from palate.models.reference.kinds import Reference
from palate.models.score import Logps, TokenLogps
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
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
        passes: never empty, because ranks go backward together.
    """

    groups: tuple[EncodedGroup, ...]
    output: LossOutput
    weights: torch.Tensor
    passes: list[Backward]


@dataclass(frozen=True, slots=True)
class CoupledLoss:
    """A method's loss over all groups of a step, or of an evaluation.

    Attributes:
        method: with `couples_batch`.
        forward: the policy's token log-probabilities of a batch.
        reference: None if the method needs none.
        split: groups into batches within the token budget.
        device: of this rank.
    """

    method: Method[Logps]
    forward: Callable[[nn.Module, Batch], TokenLogps]
    reference: Reference | None
    split: Callable[[Sequence[EncodedGroup]], list[Batch]]
    device: torch.device

    def step(self, model: nn.Module, lists: Sequence[Sequence[EncodedGroup]]) -> list[CoupledBatch]:
        """Score this rank's DataLoader batches of a step; returns the backward passes of each.

        Every rank calls it at the same time.
        """
        before = random_state(self.device)
        batches = [[batch.to(self.device) for batch in self.split(groups)] for groups in lists]
        part = self._scored(model, [batch for group in batches for batch in group])
        random = random_state(self.device) != before
        # The same dropout masks again when the same batches are scored with gradient.
        set_random_state(before, self.device)
        output, gradient = self._over(part, training=True)
        pieces = iter(torch.split(gradient, [batch.target_ids.numel() for group in batches for batch in group]))
        found: list[CoupledBatch] = []
        start = 0
        for group in batches:
            passes = [Backward(batch, next(pieces)) for batch in group]
            groups = tuple(one for batch in group for one in batch.groups)
            here = slice(start, start + len(groups))
            metrics = {name: value[here] for name, value in output.metrics.items()}
            own = LossOutput(output.loss[here], metrics)
            found.append(CoupledBatch(groups, own, part.weights[here], passes if random else self._trimmed(passes)))
            start = here.stop
        return found

    def evaluate(self, model: nn.Module, groups: Sequence[EncodedGroup]) -> tuple[LossOutput, torch.Tensor]:
        """Losses, metrics and weights of this rank's held-out groups, over those of all ranks."""
        part = self._scored(model, [batch.to(self.device) for batch in self.split(groups)])
        return self._over(part, training=False)[0], part.weights

    def _scored(self, model: nn.Module, batches: Sequence[Batch]) -> Part:
        with torch.no_grad():
            policy = [self.forward(model, batch) for batch in batches]
        reference = self.reference.logps(batches) if self.reference is not None else [None] * len(batches)
        weights = [self.method.traits.weights(batch) for batch in batches]
        return Part.joined(map(Part.of, batches, weights, policy, reference))

    def _over(self, part: Part, *, training: bool) -> tuple[LossOutput, torch.Tensor]:
        """Losses and metrics of this rank's groups, and d(mean loss)/dlogp [M] of their tokens, in the part's order.

        The loss is taken over the groups of all ranks; those of weight 0 get loss 0 and no gradient.
        """
        parts, rank = gathered(part.counted())
        whole = Part.joined(parts).to(self.device)
        with torch.enable_grad():
            leaf = whole.logps.clone().requires_grad_()
            policy, reference = whole.policy_logps(leaf), whole.reference_logps()
            output = self.method.loss(policy, reference, whole, training=training)
            mean = (output.loss * whole.weights).sum() / whole.weights.sum()
            [gradient] = torch.autograd.grad(mean, leaf)
        first_group = sum(len(one.groups) for one in parts[:rank])
        first_token = sum(one.logps.numel() for one in parts[:rank])
        groups = slice(first_group, first_group + len(parts[rank].groups))
        tokens = slice(first_token, first_token + parts[rank].logps.numel())
        counts = part.weights > 0
        metrics = {name: _spread(value[groups], counts, torch.nan) for name, value in output.metrics.items()}
        return (
            LossOutput(_spread(output.loss.detach()[groups], counts, 0.0), metrics),
            _spread(gradient[tokens], counts[part.group_of][part.completion_of], 0.0),
        )

    def _trimmed(self, passes: list[Backward]) -> list[Backward]:
        """The passes without completions that have no gradient (kto's mismatched ones), packed anew."""
        kept: list[EncodedGroup] = []
        gradients: dict[int, torch.Tensor] = {}
        dropped = False
        for one in passes:
            owner, completions = one.batch.completion_of, one.batch.completions
            pieces = iter(torch.split(one.gradient, torch.bincount(owner, minlength=completions).tolist()))
            size = one.gradient.new_zeros(completions).index_add(0, owner, one.gradient.abs())
            touched = iter((size > 0).tolist())
            for group in one.batch.groups:
                rows = [(completion, next(pieces), next(touched)) for completion in group.completions]
                wanted = [(completion, gradient) for completion, gradient, needed in rows if needed]
                dropped = dropped or len(wanted) < len(rows)
                if wanted:
                    trimmed = replace(group, completions=tuple(completion for completion, _ in wanted))
                    kept.append(trimmed)
                    gradients[id(trimmed)] = torch.cat([gradient for _, gradient in wanted])
        if not dropped:
            return passes
        if not kept:
            return passes[:1]
        batches = [batch.to(self.device) for batch in self.split(kept)]
        return [Backward(batch, torch.cat([gradients[id(group)] for group in batch.groups])) for batch in batches]


def _spread(values: torch.Tensor, where: torch.Tensor, rest: float) -> torch.Tensor:
    """`values` where `where` is true, `rest` elsewhere."""
    full = torch.full(where.shape, rest, dtype=values.dtype, device=values.device)
    full[where] = values
    return full


def random_state(device: torch.device) -> list[bytes]:
    """The state of the torch generators that a step uses."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return [state.numpy().tobytes() for state in states]


def same_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Restores the random state afterwards: an evaluation, even a DataLoader's iterator, changes no later dropout."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def set_random_state(state: Sequence[bytes], device: torch.device) -> None:
    """Restore a result of `random_state`."""
    tensors = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in state]
    torch.set_rng_state(tensors[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors[1], device)
