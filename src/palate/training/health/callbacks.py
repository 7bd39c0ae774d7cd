"""Who looks on at a run: at every step, and at every evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from palate.artifacts import RunDir
from palate.config.stages.health import DEFAULT_LIMITS, HealthFields
from palate.models.reference.stored import StoredReference
from palate.training.callbacks import StopOnSigns
from palate.training.health.degradation import Sign
from palate.training.health.evaluation import Examination, Patient
from palate.training.health.plateau import Stillness
from palate.training.health.step_checks import Finding, Health
from palate.training.setup.limits import health_prompts
from palate.training.setup.session import Session
from palate.training.trainer import PalateTrainer


class Watch:
    """Health at steps and at evaluations, and what they found.

    Args:
        session: the parts of the run.
        trainer: is given the examination, and the callback that ends the run where the config wants that.
        fresh: False for a resumed run.
        main: whether this is the main process.
    """

    def __init__(self, session: Session, trainer: PalateTrainer, *, fresh: bool, main: bool) -> None:
        self._session = session
        self._trainer = trainer
        self._fresh = fresh
        self._step = 0
        self._quiet = False
        self._health = self._at_steps()
        self._examination = self._at_evaluations(main=main)
        trainer.examination = self._examination
        if self._examination is not None:
            trainer.add_callback(StopOnSigns(self._must_stop))

    @property
    def findings(self) -> Sequence[Finding]:
        return self._health.findings

    def begin(self, folder: RunDir, before: Sequence[Mapping[str, Any]]) -> None:
        """Before the first step of this process.

        Args:
            folder: the run directory.
            before: the rows of metrics.jsonl up to the checkpoint that the run is resumed from; what was found in them
                stays found, and is not told again.
        """
        examination = self._examination
        if examination is not None:
            examination.begin(folder, fresh=self._fresh)
        self._quiet = True
        for row in before:
            self._step = int(row["step"])
            # What was not finite is null in the log.
            metrics = {name: float(item) for name, item in row.items() if isinstance(item, int | float)}
            if row["split"] == "train":
                self._health.on_step(self._step, metrics)
            if examination is not None:
                examination.replay(metrics, evaluation=row["split"] != "train")
        self._quiet = False
        if examination is not None:
            examination.agree()

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step = step
        self._health.on_step(step, metrics)
        if self._examination is not None:
            self._examination.on_step(step, metrics)

    def end(self) -> None:
        """The run is over, however it ended."""
        if self._examination is not None:
            self._examination.end()

    def _must_stop(self) -> bool:
        return self._examination is not None and self._examination.must_stop

    def _tell(self, finding: Finding) -> None:
        if not self._quiet:
            self._session.voice.say(f"warning: {finding.message}; try {finding.remedy}", keep=False)

    def _sign(self, sign: Sign) -> None:
        self._health.notice(self._step, sign)

    def _at_steps(self) -> Health:
        session = self._session
        diagnose = None
        if session.starts_equal and self._fresh and session.reference is not None:
            batch = session.policy.collate(self._trainer.groups_of_run()[:1]).to(session.device)
            diagnose = Stillness(session.policy.model, session.reference, batch, session.precision).diagnose
        return Health(
            starts_equal=session.starts_equal,
            start_loss=lambda: loss_at_start(self._trainer),
            fresh=self._fresh,
            diagnose_still=diagnose or (lambda: None),
            tell=self._tell,
            exact=not isinstance(session.reference, StoredReference) or session.precision.autocast is None,
            limits=session.config if isinstance(session.config, HealthFields) else DEFAULT_LIMITS,
        )

    def _at_evaluations(self, *, main: bool) -> Examination | None:
        """Nobody looks where nothing is held out or the config does not want it."""
        session, config, trainer = self._session, self._session.config, self._trainer
        if not isinstance(config, HealthFields) or config.health == "off" or not session.data.evaluation:
            return None
        prompts = health_prompts(config, session.config.cutoff_len, session.template, session.data.prompts)
        if prompts and (config.fsdp or config.deepspeed):
            session.voice.say("health: answers are not sampled from a sharded model; held-out pairs are looked at")
            prompts = []
        elif prompts and session.reference is None:
            session.voice.say(f"health: {session.method.traits.name} has no reference, so no KL is reported")
        patient = Patient(
            session.policy.model,
            session.reference,
            prompts,
            session.template.stop_ids,
            config,
            config.seed,
            session.precision,
            session.device,
        )
        return Examination(patient, trainer.split, trainer.sum_over_ranks, self._sign, session.voice.say, main=main)


def loss_at_start(trainer: PalateTrainer) -> float | None:
    """What the last step's loss is while policy and reference are equal, over all ranks; None where it is not known.

    Every rank calls it at the same time.
    """
    traits = trainer.method.traits
    known = [(traits.start_loss(len(group.completions)), traits.weight(group)) for group in trainer.step_groups]
    total = sum(weight * (loss or 0.0) for loss, weight in known)
    unknown = float(sum(loss is None for loss, _ in known))
    sums = torch.tensor([total, sum(weight for _, weight in known), unknown], dtype=torch.float64)
    total, weights, unknown = trainer.sum_over_ranks(sums.to(trainer.args.device)).tolist()
    return None if unknown or not weights else total / weights
