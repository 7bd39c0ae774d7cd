"""The reference: the model that does not train. Four kinds with one interface.

| kind     | scored by                                                           | memory                 |
|----------|---------------------------------------------------------------------|------------------------|
| adapter  | the base model, with the adapter disabled                           | none                   |
| copy     | the model with frozen copies of only the trained parameters         | the trained parameters |
| model    | a separate model                                                    | a model                |
| none     | nothing, for objectives without a reference                         | none                   |

Stored values can replace any of them (`models.reference.precomputed`); then no copy is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from palate.errors import ModelError
from palate.models.frozen import linear_weights
from palate.models.loading.shards import own_part
from palate.models.precision import Precision
from palate.models.scoring.forward import score
from palate.models.scoring.logps import TokenLogps
from palate.models.scoring.trunk import TrunkCache
from palate.models.upstream import evaluating
from palate.text.batch import Batch


class Reference(Protocol):
    """Log-probabilities under the reference model.

    Attributes:
        kind: `adapter`, `copy`, `model` or `none`.
        identity: content hash of its weights.
        is_start: True if the reference has the policy's starting weights, so that margins are 0 at step 0.
    """

    kind: str
    identity: str
    is_start: bool

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        """Score a step's micro-batches without gradient; one call per step, so that weights are switched once."""
        ...

    def active(self) -> contextlib.AbstractContextManager[nn.Module]:
        """A context with a model that generates like the reference."""
        ...

    def release(self) -> None:
        """Free the memory that is needed only before the first training step."""
        ...


@dataclass(eq=False)
class _LiveReference:
    """Base of references with a model in memory; scores without gradient under the run's autocast."""

    model: Any
    precision: Precision
    device: torch.device
    identity: str
    trunk: TrunkCache | None = None
    is_start = True

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        with self.active() as model:
            return self._score(model, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        with evaluating(self.model):
            yield self.model

    def release(self) -> None:
        """Does nothing: the model is needed until the end of the run."""

    def _score(self, call: Callable[..., TokenLogps], batches: Sequence[Batch]) -> list[TokenLogps]:
        with torch.no_grad(), self.precision.context(self.device):
            return [TokenLogps(score(call, batch, self.trunk).logps.float()) for batch in batches]


class PolicyAtStart(_LiveReference):
    """The policy itself before its first step: fills a store, so that no copy is needed."""

    kind = "start"


class AdapterOff(_LiveReference):
    """The base model under the policy's disabled adapter."""

    kind = "adapter"

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        with evaluating(self.model), self.model.disable_adapter():
            yield self.model


@dataclass(eq=False)
class FrozenCopy(_LiveReference):
    """The policy's own modules, with frozen copies in place of the trained parameters.

    Copies of weights that only linear layers use are stored in the autocast dtype: autocast would cast them at every
    use, so the values are the same in half the memory. A weight tied to an embedding is not cast.
    """

    kind = "copy"

    def __post_init__(self) -> None:
        linear = {id(parameter) for parameter in linear_weights(self.model)}
        self.copies: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                copy = parameter.detach().clone()
                if self.precision.autocast is not None and id(parameter) in linear:
                    copy = copy.to(self.precision.autocast)
                self.copies[name] = copy

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        # functional_call uses the copies in their own dtype; `active` would cast them to the parameters' dtype first.
        def call(**inputs: Any) -> TokenLogps:
            return torch.func.functional_call(self.model, self.copies, kwargs=inputs)  # type: ignore[no-any-return]

        with evaluating(self.model):
            return self._score(call, batches)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        """A context in which the policy's parameters are the copies; for generation, never for training."""
        with swapped(self.model, self.copies), evaluating(self.model):
            yield self.model


@dataclass(eq=False, kw_only=True)
class SeparateModel(_LiveReference):
    """A separate model, loaded from `ref_model`.

    Attributes:
        reload: loads the same model again after this one was freed; None if that is not possible.
    """

    is_start: bool = False
    reload: Callable[[], nn.Module] | None = None
    kind = "model"

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)


@contextlib.contextmanager
def swapped(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """A context in which the named parameters have these values, in their own dtype and on their own device."""
    parameters = dict(model.named_parameters())
    live = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value.to(live[name])
        yield
    finally:
        for name, data in live.items():
            parameters[name].data = data


def check_separate(policy: nn.Module, reference: Reference) -> None:
    """Check that the reference shares no storage with a trained parameter: it would change with the policy.

    Raises:
        ModelError: names the shared parameter.
    """
    trained = {own_part(p).data_ptr(): name for name, p in policy.named_parameters() if p.requires_grad}
    trained.pop(0, None)  # without elements
    if isinstance(reference, FrozenCopy):
        pointers = {name: tensor.data_ptr() for name, tensor in reference.copies.items()}
    elif isinstance(reference, SeparateModel):
        pointers = {name: own_part(p).data_ptr() for name, p in reference.model.named_parameters()}
    else:
        return
    for name, pointer in pointers.items():
        if pointer in trained:
            raise ModelError(
                f"the reference's {name} shares its storage with the policy's {trained[pointer]}, which trains: "
                "the reference would change; give ref_model its own copy"
            )
