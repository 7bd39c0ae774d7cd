"""The metric by which evaluations are compared, checked before the first step."""

from __future__ import annotations

from palate.errors import ConfigError
from palate.training.setup.session import Session
from palate.training.trainer import PalateTrainer


def check_best_metric(session: Session, trainer: PalateTrainer) -> None:
    """Refuse a `metric_for_best_model` that no evaluation of this run has.

    Raises:
        ConfigError: names the metric and those that there are.
    """
    name = session.config.metric_for_best_model
    if name in (None, "loss") or not session.data.evaluation:
        return
    with session.precision.context(session.device):
        names = trainer.evaluation_metrics()
    if name not in names:
        raise ConfigError(
            f"metric_for_best_model: {name} is not measured with stage: {session.config.stage}; "
            f"an evaluation has {', '.join(names)}"
        )
