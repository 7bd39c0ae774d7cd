"""What a method is: which record it reads, how the model's output is read, and the loss of each group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from palate.models.score import Logps, TokenLogps, per_completion
from palate.records import AnyRecord, Dropped, Record
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LossOutput:
    """One loss per group, and what to log of each.

    Attributes:
        loss: float32 [G], with gradient.
        metrics: name → float32 [G], without gradient; logged as weighted means over the examples that have the value:
            NaN stands for an example that has none.
    """

    loss: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Rows(Protocol):
    """What a loss may know of the groups that it is given: a `Batch` is one, and so is a whole coupled step."""

    @property
    def groups(self) -> Sequence[EncodedGroup]:
        """The G groups, in order; of those of other ranks all but the tokens is there."""
        ...

    @property
    def completion_of(self) -> torch.Tensor:
        """int64 [M], which of the C completions each trained token belongs to."""
        ...

    @property
    def group_of(self) -> torch.Tensor:
        """int64 [C], which of the G groups each completion belongs to."""
        ...

    @property
    def completions(self) -> int:
        """C."""
        ...


class Method(ABC, Generic[S]):
    """A way to learn from groups. The trainer knows no more of it than this; S is what it reads off a forward pass.

    Attributes:
        name: as logged.
        record: the record type that it reads.
        needs_reference: whether `loss` gets reference log-probabilities.
        couples_batch: whether its loss depends on statistics of the whole step, so that the step is scored first
            (`training.coupled`).
        start_loss: the loss when policy and reference are equal, where it is known and the same for every group.
        head: what stands on top of the model: `lm`, a vocabulary, or `reward`, one number per completion.
    """

    name: str
    record: type[Record]
    needs_reference: bool = False
    couples_batch: bool = False
    start_loss: float | None = None
    head: ClassVar[str] = "lm"

    @abstractmethod
    def read(self, output: Any, batch: Batch) -> S:
        """The model's output on a batch as `loss` takes it."""

    @abstractmethod
    def loss(self, policy: S, reference: Logps | None, rows: Rows) -> LossOutput:
        """The losses of a batch's groups, or of all groups of a step at once where `couples_batch`."""

    def admit(self, record: AnyRecord) -> AnyRecord | Dropped:
        """The record as it is trained on, or why it is not."""
        return record

    def arrange(self, groups: Sequence[EncodedGroup], *, seed: int) -> list[EncodedGroup]:
        """All encoded groups of a split as they are trained on; raises DataError where there is nothing to learn."""
        del seed
        return list(groups)

    def notices(self, groups: Sequence[EncodedGroup]) -> list[str]:
        """Lines for a person about the training groups, before the start."""
        del groups
        return []

    def sized(self, groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
        """The groups as large as a step may meet them: what memory is planned for."""
        return list(groups)

    def loss_at_start(self, group: EncodedGroup) -> float | None:
        """The loss of the group when policy and reference are equal; None where it depends on more than its shape."""
        del group
        return self.start_loss

    def weight(self, group: EncodedGroup) -> float:
        """How much the group counts in the step's mean."""
        return group.weight

    def weights(self, batch: Batch) -> torch.Tensor:
        """`weight` of each group of a batch, float32 [G]."""
        return torch.tensor([self.weight(group) for group in batch.groups], device=batch.weights.device)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """Further arguments of the policy's forward pass."""
        del batch
        return {}

    def observe(self, policy: S, reference: Logps | None, rows: Rows) -> None:
        """See a whole training step, of all ranks, before its loss is taken; called where `couples_batch`."""
        del policy, reference, rows

    def summarise(self, metrics: dict[str, float]) -> dict[str, float]:
        """The means over examples, and what follows from them but is no mean itself."""
        return metrics

    def by_row(
        self, groups: Sequence[EncodedGroup], output: LossOutput, weights: torch.Tensor
    ) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
        """name → float [G], and the weights [G] by which `summarise` gives their means."""
        del groups
        return {"loss": output.loss, **output.metrics}, weights

    def state(self) -> dict[str, float]:
        """What must survive a resume; saved with every checkpoint."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` gave."""
        del state


class LogpsMethod(Method[Logps]):
    """A method on the log-probabilities of completions: nearly all of them."""

    def read(self, output: TokenLogps, batch: Batch) -> Logps:
        return per_completion(output, batch)
