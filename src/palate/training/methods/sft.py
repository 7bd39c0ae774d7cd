"""Supervised fine-tuning: the negative log-likelihood of demonstrations, K = 1."""

from __future__ import annotations

from palate.config.run import SftConfig
from palate.models.scoring.logps import Logps
from palate.records import Demonstration
from palate.training.methods.base import LossOutput, Method, Rows, Traits


class Sft(Method[Logps]):
    """Mean NLL per trained token over the whole step."""

    traits = Traits(name="sft", record=Demonstration, counts_tokens=True)

    def __init__(self, config: SftConfig) -> None:
        del config

    def loss(self, policy: Logps, reference: Logps | None, rows: Rows, *, training: bool = False) -> LossOutput:
        del reference, rows, training
        nll = -policy.means
        return LossOutput(nll, {"logps/chosen": policy.sums.detach(), "nll": nll.detach()})
