"""The reference is what does not train: four kinds behind one call.

| kind     | what answers                                                        | memory                 |
|----------|---------------------------------------------------------------------|------------------------|
| adapter  | the base model, under the disabled adapter                          | none                   |
| copy     | the model with frozen copies of only the parameters that train      | the trainable share    |
| model    | a separate model                                                    | a model                |
| none     | nothing, for objectives that need none                              | none                   |

Stored values stand in front of any of them (`models.reference.stored`): then a copy is not even made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from palate.errors import ModelError
from palate.models.precision import Precision
from palate.models.score import TokenLogps
from palate.models.trunk import TrunkCache
from palate.text.batch import Batch

T = TypeVar("T")


class Reference(Protocol):
    """Log-probabilities under the model that does not move.

    Attributes:
        kind: `adapter`, `copy`, `model` or `none`.
        identity: content hash of the weights that it scores with.
        is_start: True where the reference is the policy as it starts, so that margins are 0 at step 0.
    """

    kind: str
    identity: str
    is_start: bool

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        """Score a step's micro-batches, without gradient; one call a step, so that switching costs once."""
        ...

    def active(self) -> contextlib.AbstractContextManager[nn.Module]:
        """A model that generates as the reference does, inside the context."""
        ...

    def release(self) -> None:
        """Training is about to start: let go of what only the start needed."""
        ...


class _Scoring:
    """What the live kinds share: the one scorer, under the run's autocast, without gradient."""

    def __init__(self, precision: Precision, device: torch.device, trunk: TrunkCache | None = None) -> None:
        self._precision = precision
        self._device = device
        self._trunk = trunk

    def _score(self, call: Callable[..., TokenLogps], batches: Sequence[Batch]) -> list[TokenLogps]:
        with torch.no_grad(), self._precision.context(self._device):
            return [TokenLogps(score(call, batch, self._trunk).logps.float()) for batch in batches]

    def release(self) -> None:
        """A live reference is needed to the end."""


def score(call: Callable[..., T], batch: Batch, trunk: TrunkCache | None) -> T:
    """One forward pass; what frozen layers compute is taken from the trunk, or left there for the next pass."""
    if not trunk:
        return call(**batch.model_inputs())
    run = trunk.run(batch)
    output = call(**batch.model_inputs(), trunk=run)
    trunk.keep(batch, run)
    return output


class PolicyAtStart(_Scoring):
    """The policy itself, before its first step: what fills a store, so that no copy is needed."""

    kind = "start"
    is_start = True

    def __init__(
        self,
        policy: nn.Module,
        precision: Precision,
        device: torch.device,
        identity: str,
        trunk: TrunkCache | None = None,
    ) -> None:
        super().__init__(precision, device, trunk)
        self.identity = identity
        self.policy = policy

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        with self.active() as model:
            return self._score(model, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        with evaluating(self.policy):
            yield self.policy


class AdapterOff(_Scoring):
    """The base model under the policy's disabled adapter."""

    kind = "adapter"
    is_start = True

    def __init__(self, policy: Any, precision: Precision, device: torch.device, identity: str) -> None:
        super().__init__(precision, device)
        self._policy = policy
        self.identity = identity

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        with self.active() as model:
            return self._score(model, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        with evaluating(self._policy), self._policy.disable_adapter():
            yield self._policy


class FrozenCopy(_Scoring):
    """The policy's own modules, with frozen copies in place of the parameters that train.

    Copies of weights that only linear layers use are kept in the autocast dtype: autocast would cast them to it at
    every use, so the values are the same and half the memory is saved. A weight tied to an embedding is not cast.
    """

    kind = "copy"
    is_start = True

    def __init__(
        self,
        policy: nn.Module,
        precision: Precision,
        device: torch.device,
        identity: str,
        trunk: TrunkCache | None = None,
    ) -> None:
        super().__init__(precision, device, trunk)
        self.identity = identity
        self._policy = policy
        linear_only = _linear_only(policy)
        self.copies: dict[str, torch.Tensor] = {}
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                copy = parameter.detach().clone()
                if precision.autocast is not None and id(parameter) in linear_only:
                    copy = copy.to(precision.autocast)
                self.copies[name] = copy

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        def call(**inputs: Any) -> TokenLogps:
            return torch.func.functional_call(self._policy, self.copies, kwargs=inputs)  # type: ignore[no-any-return]

        with evaluating(self._policy):
            return self._score(call, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The policy's parameters point at the copies inside the context; used to generate, never to train."""
        parameters = dict(self._policy.named_parameters())
        live = {name: parameters[name].data for name in self.copies}
        try:
            for name, copy in self.copies.items():
                parameters[name].data = copy.to(live[name].dtype)
            with evaluating(self._policy):
                yield self._policy
        finally:
            for name, data in live.items():
                parameters[name].data = data


class SeparateModel(_Scoring):
    """A model of its own, loaded from `ref_model`.

    Attributes:
        reload: reads the same model again, for whoever needs it after this one is gone; None where nobody can.
    """

    kind = "model"

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        device: torch.device,
        identity: str,
        *,
        is_start: bool,
        reload: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__(precision, device)
        self.model = model.eval().requires_grad_(False)
        self.identity = identity
        self.is_start = is_start
        self.reload = reload

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        return self._score(self.model, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        yield self.model


def _linear_only(model: nn.Module) -> set[int]:
    """ids of the parameters that nothing but plain linear layers use."""
    linear: set[int] = set()
    other: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (linear if type(module) is nn.Linear else other).add(id(parameter))
    return linear - other


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model has no dropout, whatever it trains with."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def check_separate(policy: nn.Module, reference: Reference) -> None:
    """Refuse a reference that shares storage with a parameter that trains: it would move with the policy.

    Raises:
        ModelError: names the shared parameter.
    """
    live = {p.data_ptr(): name for name, p in policy.named_parameters() if p.requires_grad and p.numel()}
    if isinstance(reference, FrozenCopy):
        held = {name: tensor.data_ptr() for name, tensor in reference.copies.items()}
    elif isinstance(reference, SeparateModel):
        held = {name: p.data_ptr() for name, p in reference.model.named_parameters()}
    else:
        return
    for name, pointer in held.items():
        if pointer in live:
            raise ModelError(
                f"the reference's {name} shares its storage with the policy's {live[pointer]}, which trains: "
                "the reference would move; give ref_model its own copy"
            )
