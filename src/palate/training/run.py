"""Runs one training: takes a config and writes a complete run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.distributed.fsdp import FSDPModule
from transformers.trainer_callback import PrinterCallback

from palate.artifacts import JsonlWriter, RunDir, remove_folder, write_json
from palate.artifacts.model_card import write_model_card
from palate.config.run import RunConfig
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ArtifactError, BatchStop, ConfigError, Stopped
from palate.models.export.hub import prepare_repository, upload
from palate.models.generation.decoding import Decoding
from palate.text.batch import micro_batches, stream_batches
from palate.text.group_file import JoinedGroups, lengths_of
from palate.training import callbacks
from palate.training.checkpoints import resume
from palate.training.checkpoints.publish import publish
from palate.training.health.callbacks import HealthCheck, build_health_check
from palate.training.methods.online import OnlineMethod
from palate.training.online.policy_engine import FOLDER as ROLLOUT_POLICY
from palate.training.online.policy_engine import policy_engine
from palate.training.online.rewards import JudgeRewards
from palate.training.online.rollouts import Split, StepRollouts, with_longest_answers
from palate.training.processes import is_main_process
from palate.training.samples import SampleWriter
from palate.training.scoring import Scoring
from palate.training.setup.arguments import check_trackers, training_arguments
from palate.training.setup.environment import peak_memory_bytes
from palate.training.setup.memory import largest_batch, plan_memory
from palate.training.setup.references import fill_reference
from palate.training.setup.session import Session, prepare
from palate.training.sharded import forget_sharding, is_sharded
from palate.training.trainer import PalateTrainer


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        output_dir: the run directory.
        status: `completed`; a run that a signal ended raises `Stopped` instead.
        metrics: of the last step, and of the last evaluation with the prefix `eval_`.
        report: report.html, if it was written.
    """

    output_dir: Path
    status: str
    metrics: dict[str, float]
    report: Path | None = None


def train(config: RunConfig, *, notices: Sequence[str] = (), judges: JudgeRewards | None = None) -> RunResult:
    """Train as the config says and write a complete run directory.

    Args:
        config: a resolved run.
        notices: lines about the config that the user has seen already; they are recorded in run.json.
        judges: builds reward functions from the judges named in `rewards`; `palate train` passes it.

    Raises:
        PalateError: one line that names the fix. Existing complete files are unchanged.
        EngineError: `push_to_hub`: the hub refuses the model; the run itself is complete.
        Stopped: a signal ended the run; a checkpoint to resume from was written.
    """
    resuming = bool(config.resume_from_checkpoint)
    private = config.hub_private_repo
    if is_main_process():  # other ranks may arrive after rank 0 has started to write the directory
        RunDir.check(config.output_dir, resume=resuming, overwrite=config.overwrite_output_dir)
        check_trackers(config.report_to)
        if config.push_to_hub:
            prepare_repository(str(config.hub_model_id), private=private)
    if isinstance(config.resume_from_checkpoint, str):
        resume.check_resumable(Path(config.resume_from_checkpoint))
    session = prepare(config, notices, judges=judges)
    if not is_main_process():
        return _Training(session, RunDir(config.output_dir)).run()
    folder = RunDir.claim(config.output_dir, resume=resuming, overwrite=config.overwrite_output_dir)
    training = _Training(session, folder)
    try:
        done = training.run()
    except Stopped:
        raise
    except BaseException as error:  # interrupts included: run.json must not keep the status "running"
        with contextlib.suppress(ArtifactError):
            folder.finish("failed", error=_one_line(error), **training.outcome({}))
        raise
    if config.push_to_hub:  # the run is complete, whatever the hub says
        session.log.info(f"uploaded to {upload(folder.path, str(config.hub_model_id), private=private)}", keep=False)
    return done


class _Training:
    """One training run with its run directory."""

    def __init__(self, session: Session, folder: RunDir) -> None:
        self.session = session
        self.folder = folder
        self.main = is_main_process()
        self._stop = callbacks.StopOnSignal(session.device)
        self._health: HealthCheck | None = None
        # Arguments that divide groups into batches.
        self._batching: dict[str, Any] = {}
        # Rows of metrics.jsonl before the checkpoint that is resumed from.
        self._logged: list[dict[str, Any]] = []

    def run(self) -> RunResult:
        session, config = self.session, self.session.config
        checkpoint = resume.checkpoint_of(session, self.folder)
        if self.main:
            self._write_start(checkpoint)
        with contextlib.ExitStack() as stack:
            stack.callback(forget_sharding)
            stack.callback(lambda: self._health.close() if self._health else None)
            write = stack.enter_context(JsonlWriter(self.folder.metrics)).write if self.main else None
            samples = self._samples(stack)
            trainer = self._trainer()
            progress = callbacks.TerminalProgress()
            self._stop.install()
            stack.callback(self._stop.restore)
            stack.callback(progress.close)
            for callback in (callbacks.MetricsLog(trainer, write), self._stop, progress):
                trainer.add_callback(callback)
            if self.main:
                trainer.add_callback(callbacks.StartRecord(self.folder.update))
            try:
                evaluated = self._train_and_evaluate(trainer, samples, checkpoint)
            except BatchStop as signal:
                trainer.abandon_step()
                trainer.save_checkpoint()
                raise self._stopped(trainer, signal.signal_number) from None
        final = {**trainer.step_metrics, **evaluated}
        with session.log.timed("save"):
            publish(self.folder.path, trainer)
        if self.main:
            remove_folder(self.folder.path / ROLLOUT_POLICY)
            outcome = self.outcome(final)
            write_model_card(self.folder.path, {**self.folder.read(), **outcome}, session.data.report)
            self.folder.finish("completed", **outcome)
        return RunResult(Path(config.output_dir), "completed", final)

    def _write_start(self, checkpoint: Path | None) -> None:
        """Write the files of a new run, or cut those of a resumed run back to its checkpoint."""
        session, folder = self.session, self.folder
        if checkpoint is not None:
            resume.check_same_run(session, folder)
        write_json(folder.data, session.data.report)
        folder.update(**session.facts(), progress=None)  # of the steps before an interruption
        resume.rewind_samples(folder.samples, checkpoint)
        self._logged = resume.rewind_metrics(folder.metrics, checkpoint)

    def _train_and_evaluate(
        self, trainer: PalateTrainer, samples: SampleWriter | None, checkpoint: Path | None
    ) -> dict[str, float]:
        """Prepare and train; returns the metrics of the last evaluation."""
        session = self.session
        self._before_training(trainer, samples, fresh=checkpoint is None)
        if checkpoint is not None:
            trainer.add_callback(callbacks.MissedEvaluation(lambda: trainer.make_up_evaluation(str(checkpoint))))
        with session.log.timed("train"):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self._stop.stopped_by and trainer.state.global_step < trainer.state.max_steps:
            raise self._stopped(trainer, self._stop.stopped_by)
        self._stop.between_batches()  # a signal during the last step or its evaluation
        evaluated = self._evaluate(trainer)
        if samples is not None:
            samples.write(trainer.state.global_step, session.policy.model)
        return evaluated

    def _before_training(self, trainer: PalateTrainer, samples: SampleWriter | None, *, fresh: bool) -> None:
        """Fill the reference store, write the first samples and start the health checks, before any weight changes."""
        session = self.session
        self._check_best_metric(trainer)
        with session.log.timed("reference"):
            fill_reference(
                session.reference,
                JoinedGroups(trainer.groups_of_run(), session.data.evaluation),
                partial(stream_batches, **self._batching),
                precision=session.precision,
                device=session.device,
                report=session.log.info,
                main=self.main,
                divided=isinstance(session.policy.model, FSDPModule),
            )
        if samples is not None:
            samples.write_start(session.policy.model, session.reference, write=fresh)
        self._health = build_health_check(session, trainer, fresh=fresh)
        self._health.begin(self.folder, self._logged, fresh=fresh)
        trainer.health = self._health
        trainer.add_callback(self._health)
        if session.reference is not None:
            session.reference.release()

    def _trainer(self) -> PalateTrainer:
        session, config = self.session, self.session.config
        policy = session.policy
        self._batching = {"budget": self._token_budget(), "collate": policy.collate, "packed": policy.probe.packed}
        reference = session.reference if session.rewards is None else None  # online methods score with it when sampling
        split = partial(micro_batches, **self._batching)
        trainer = PalateTrainer(
            model=policy.model,
            train_groups=session.data.train,
            eval_groups=session.data.evaluation,
            split=split,
            collate=policy.collate,
            scoring=Scoring(session.method, reference, policy.trunk, policy.balance, policy.noise),
            rollouts=self._rollouts(split),
            between_batches=self._stop.between_batches,
            args=training_arguments(config, self.folder.path, session.precision, session.device),
            processing_class=session.template.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        if config.early_stopping_patience is not None:
            trainer.add_callback(callbacks.StopEarly(config.early_stopping_patience))
        for row in self._logged:
            if row["split"] == "train":
                trainer.step_metrics = {name: row[name] for name in row if name not in ("step", "split", "epoch")}
        return trainer

    def _rollouts(self, split: Split) -> StepRollouts | None:
        """What samples for an online method; None for offline methods."""
        session, config = self.session, self.session.config
        if session.rewards is None or session.reference is None:
            return None
        assert isinstance(config, RolloutFields)
        assert isinstance(session.method, OnlineMethod)
        return StepRollouts(
            session.policy.model,
            session.reference,
            session.method,
            session.rewards,
            session.template,
            Decoding(config.max_new_tokens, config.temperature, config.top_p, config.seed),
            session.precision,
            session.device,
            policy_engine(config, self.folder.path, session.template),
            self.main,
            split,
        )

    def _token_budget(self) -> int:
        """Token budget of a forward pass: from the config, from the resumed run, or as much as free memory allows."""
        session, config = self.session, self.session.config
        given = None if config.max_tokens_per_batch == "auto" else int(config.max_tokens_per_batch)
        if given is None and self.main and config.resume_from_checkpoint:
            given = self.folder.read().get("memory", {}).get("tokens")
        groups, answer_tokens = session.data.train, 0
        if isinstance(session.method, OnlineMethod) and isinstance(config, RolloutFields):
            groups = with_longest_answers(groups, session.method.generations, config.max_new_tokens)
            if config.rollout_url is None:  # this process samples the answers
                answer_tokens = max(group.longest_row for group in groups)
        trunk = session.policy.trunk
        batch = session.policy.collate(groups[:1]).to(session.device)
        plan = plan_memory(
            session.policy.model,
            batch,
            precision=session.precision,
            optimiser=config.optim,
            tokens=given,
            largest=largest_batch(lengths_of(groups).packed, config.per_device_train_batch_size),
            trunk=trunk.estimate(groups) if trunk else 0,
            device=session.device,
            inputs=session.method.traits.inputs(batch),
            answer_tokens=answer_tokens,
        )
        session.log.info(plan.line())
        if self.main:
            self.folder.update(memory=plan.to_json())
        return plan.tokens

    def _check_best_metric(self, trainer: PalateTrainer) -> None:
        """Raise ConfigError if this run's evaluations do not measure `metric_for_best_model`."""
        session = self.session
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

    def _samples(self, stack: contextlib.ExitStack) -> SampleWriter | None:
        session, config = self.session, self.session.config
        if not self.main or not isinstance(config, SampleFields) or not config.sample_prompts:
            return None
        if is_sharded(config):  # only the main process samples, and a pass needs all of them
            session.log.info("samples: none are generated from a sharded model")
            return None
        return SampleWriter(
            session.data.prompts[: config.sample_prompts],
            session.template,
            session.precision,
            config.sample_max_new_tokens,
            stack.enter_context(JsonlWriter(self.folder.samples)),
        )

    def _evaluate(self, trainer: PalateTrainer) -> dict[str, float]:
        """Evaluation metrics of the final weights; evaluates now unless training already did."""
        if not self.session.data.evaluation:
            return {}
        state = trainer.state
        final_step = state.global_step
        if trainer.args.load_best_model_at_end and state.best_model_checkpoint:
            final_step = state.best_global_step
        done = [row for row in state.log_history if "eval_loss" in row and row["step"] == final_step]
        with self.session.log.timed("evaluate"):
            values = done[-1] if done else trainer.evaluate()
        return {name: float(value) for name, value in values.items() if name.startswith("eval_")}

    def _stopped(self, trainer: PalateTrainer, signal_number: int) -> Stopped:
        step, steps = trainer.state.global_step, trainer.state.max_steps
        if self.main:
            self.folder.finish("stopped", **self.outcome(trainer.step_metrics))
        where = f"at step {step} of {steps} with a checkpoint" if step else "before the end of the first step"
        return Stopped(f"stopped {where}; resume with: --set resume_from_checkpoint=true", signal_number)

    def outcome(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """The fields that are added to run.json at the end."""
        log = self.session.log
        return {
            "final_metrics": dict(metrics),
            "health": [asdict(finding) for finding in (self._health.findings if self._health else ())],
            "notices": log.lines,
            "timings": log.timings,
            "peak_memory_bytes": peak_memory_bytes(self.session.device),
        }


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
