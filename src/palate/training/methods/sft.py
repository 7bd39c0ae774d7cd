"""Supervised fine-tuning: the negative log-likelihood of demonstrations, K = 1."""

from __future__ import annotations

from palate.models.score import Logps
from palate.records import Demonstration, Record
from palate.text.encode import EncodedGroup
from palate.training.methods.base import LogpsMethod, LossOutput, Rows


class Sft(LogpsMethod):
    """Mean NLL per trained token over the whole step: a group weighs as many times as it has trained tokens."""

    name = "sft"
    record: type[Record] = Demonstration

    def weight(self, group: EncodedGroup) -> float:
        return group.weight * sum(int(completion.trained.sum()) for completion in group.completions)

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows) -> LossOutput:
        del reference, rows
        nll = -policy.means
        return LossOutput(nll, {"logps/chosen": policy.sums.detach(), "nll": nll.detach()})
