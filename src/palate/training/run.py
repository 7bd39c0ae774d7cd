"""One run: config in, run directory out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers.trainer_callback import PrinterCallback

from palate.artifacts import JsonlWriter, RunDir, remove_folder, write_json
from palate.config.run import RunConfig
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ArtifactError, BatchStop, Stopped
from palate.models.generation.generate import Decoding
from palate.text.batch import micro_batches
from palate.text.groups import EncodedGroup
from palate.training.callbacks import EvaluationLog, MissedEvaluation, StepMetrics, StopOnSignal, TerminalProgress
from palate.training.checkpoints.early import StopEarly
from palate.training.checkpoints.publish import publish
from palate.training.checkpoints.resume import (
    check_resumable,
    check_same_run,
    checkpoint_of,
    rewind_metrics,
    rewind_samples,
)
from palate.training.health.callbacks import Watch
from palate.training.methods.online import OnlineMethod
from palate.training.online.policy_engine import FOLDER as ROLLOUT_POLICY
from palate.training.online.policy_engine import policy_engine
from palate.training.online.rewards import JudgeRewards
from palate.training.online.rollouts import Sampler, with_longest_answers
from palate.training.samples import SampleWriter
from palate.training.scoring import Scoring
from palate.training.setup.arguments import training_arguments
from palate.training.setup.best import check_best_metric
from palate.training.setup.build import balance_of
from palate.training.setup.environment import is_main_process, peak_memory_bytes
from palate.training.setup.facts import run_facts
from palate.training.setup.memory import largest_batch, plan_memory
from palate.training.setup.references import fill_reference
from palate.training.setup.session import Session, prepare
from palate.training.setup.trackers import check_trackers
from palate.training.trainer import PalateTrainer


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left behind.

    Attributes:
        output_dir: the run directory.
        status: `completed`; a run that a signal ended raises `Stopped` instead.
        metrics: the last step's metrics, and evaluation's with the prefix `eval_`.
        report: report.html where it was written.
    """

    output_dir: Path
    status: str
    metrics: dict[str, float]
    report: Path | None = None


def train(config: RunConfig, *, notices: Sequence[str] = (), judges: JudgeRewards | None = None) -> RunResult:
    """Train as the config says and leave a complete run directory.

    Args:
        config: a resolved run.
        notices: lines about the config that the user has seen already; they go into run.json.
        judges: makes a judge that `rewards` names into a reward; `palate train` gives one.

    Raises:
        PalateError: with one line that names the remedy. What was complete before stays as it was.
        Stopped: a signal ended the run, after a checkpoint to resume from.
    """
    resuming = bool(config.resume_from_checkpoint)
    if is_main_process():  # the others may come when it has begun to write there
        RunDir.check(config.output_dir, resume=resuming, overwrite=config.overwrite_output_dir)
    if isinstance(config.resume_from_checkpoint, str):
        check_resumable(Path(config.resume_from_checkpoint))
    if is_main_process():
        check_trackers(config.report_to)
    session = prepare(config, notices, judges=judges)
    if not is_main_process():
        return _Training(session, RunDir(config.output_dir)).run()
    folder = RunDir.claim(config.output_dir, resume=resuming, overwrite=config.overwrite_output_dir)
    training = _Training(session, folder)
    try:
        return training.run()
    except Stopped:
        raise
    except BaseException as error:
        with contextlib.suppress(ArtifactError):
            folder.finish("failed", error=_one_line(error), **training.outcome({}))
        raise


class _Training:
    """The life of one run in its directory."""

    def __init__(self, session: Session, folder: RunDir) -> None:
        self.session = session
        self.folder = folder
        self.main = is_main_process()
        self.last: dict[str, float] = {}
        self._watch: Watch | None = None
        self._before: list[dict[str, Any]] = []
        self._resumes = bool(session.config.resume_from_checkpoint)
        self._observers: list[Callable[[int, Mapping[str, float]], None]] = []

    def run(self) -> RunResult:
        session, config = self.session, self.session.config
        checkpoint = checkpoint_of(session, self.folder)
        if self.main:
            if checkpoint is not None:
                check_same_run(session, self.folder)
            write_json(self.folder.data, session.data.report)
            self.folder.update(**run_facts(session))
            self._rewind(checkpoint)
        stop = StopOnSignal(session.device)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self._watch.end() if self._watch else None)
            metrics_file = stack.enter_context(JsonlWriter(self.folder.metrics)) if self.main else None
            samples = self._samples(stack)
            trainer = self._trainer(stop)
            progress = TerminalProgress()
            stop.install()
            stack.callback(stop.restore)
            stack.callback(progress.close)
            for callback in (StepMetrics(trainer.finish_step), stop, progress):
                trainer.add_callback(callback)
            if metrics_file is not None:
                trainer.add_callback(EvaluationLog(metrics_file.write, lambda: trainer.evaluated))
            try:
                evaluated = self._passes(trainer, samples, metrics_file, stop, checkpoint)
            except BatchStop as signal:
                trainer.abandon_step()
                trainer.save_checkpoint()
                raise self._stopped(trainer, signal.signal_number) from None
        final = {**self.last, **evaluated}
        with session.voice.timed("save"):
            publish(self.folder.path, trainer, session, final)
        if self.main:
            remove_folder(self.folder.path / ROLLOUT_POLICY)
            self.folder.finish("completed", **self.outcome(final))
        return RunResult(Path(config.output_dir), "completed", final)

    # ---- parts

    def _passes(
        self,
        trainer: PalateTrainer,
        samples: SampleWriter | None,
        metrics_file: JsonlWriter | None,
        stop: StopOnSignal,
        checkpoint: Path | None,
    ) -> dict[str, float]:
        """What comes before the first step, the steps, the last evaluation and the last samples."""
        session = self.session
        self._before_the_first_step(trainer, samples, fresh=checkpoint is None)
        self._observe(trainer, metrics_file)
        if checkpoint is not None:
            trainer.add_callback(MissedEvaluation(lambda: trainer.make_up_evaluation(str(checkpoint))))
        with session.voice.timed("train"):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if stop.stopped_by and trainer.state.global_step < trainer.state.max_steps:
            raise self._stopped(trainer, stop.stopped_by)
        stop.between_batches()  # caught while the last step was made or evaluated
        evaluated = self._evaluate(trainer)
        if samples is not None:
            samples.write(trainer.state.global_step, session.policy.model)
        return evaluated

    def _before_the_first_step(self, trainer: PalateTrainer, samples: SampleWriter | None, *, fresh: bool) -> None:
        """What only the start can do: fill the reference store and let policy and reference answer."""
        session = self.session
        check_best_metric(session, trainer)
        with session.voice.timed("reference"):
            fill_reference(
                session.reference,
                [*trainer.groups_of_run(), *session.data.evaluation],
                trainer.split,
                precision=session.precision,
                device=session.device,
                say=session.voice.say,
                main=self.main,
            )
        if samples is not None:
            samples.write_start(session.policy.model, session.reference, write=fresh)
        self._watch = Watch(session, trainer, fresh=fresh, main=self.main)
        self._watch.begin(self.folder, self._before)
        if session.reference is not None:
            session.reference.release()

    def _trainer(self, stop: StopOnSignal) -> PalateTrainer:
        session, config = self.session, self.session.config
        reference = session.reference if session.rewards is None else None  # online methods compare with it themselves
        trainer = PalateTrainer(
            model=session.policy.model,
            method=session.method,
            reference=reference,
            train_groups=session.data.train,
            eval_groups=session.data.evaluation,
            split=partial(
                micro_batches,
                budget=self._token_budget(),
                collate=session.policy.collate,
                packed=session.policy.probe.packed,
            ),
            scoring=Scoring(
                session.method,
                reference,
                trunk=session.policy.trunk,
                balance=balance_of(config, session.policy.model)[0],
                noise=session.policy.noise,
            ),
            sampler=self._sampler(),
            on_step=self._on_step,
            between_batches=stop.between_batches,
            args=training_arguments(config, self.folder.path, session.precision, session.device),
            processing_class=session.template.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        if config.early_stopping_patience is not None:
            trainer.add_callback(StopEarly(config.early_stopping_patience))
        return trainer

    def _sampler(self) -> Sampler | None:
        """What online methods answer prompts with."""
        session, config = self.session, self.session.config
        if session.rewards is None or session.reference is None:
            return None
        assert isinstance(config, RolloutFields)
        assert isinstance(session.method, OnlineMethod)
        return Sampler(
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
        )

    def _token_budget(self) -> int:
        """Tokens of a forward pass: as configured, as the run began with, or what fits into free memory."""
        session, config = self.session, self.session.config
        before = self.folder.read().get("memory", {}).get("tokens") if self.main and self._resumes else None
        given = before if config.max_tokens_per_batch == "auto" else int(config.max_tokens_per_batch)
        groups = session.data.train
        if isinstance(session.method, OnlineMethod) and isinstance(config, RolloutFields):
            groups = with_longest_answers(groups, session.method.generations, config.max_new_tokens)
        trunk = session.policy.trunk
        batch = session.policy.collate(groups[:1]).to(session.device)
        plan = plan_memory(
            session.policy.model,
            batch,
            precision=session.precision,
            optimiser=config.optim,
            tokens=given,
            largest=largest_batch([g.packed_tokens for g in groups], config.per_device_train_batch_size),
            trunk=trunk.estimate(groups) if trunk else 0,
            device=session.device,
            inputs=session.method.traits.inputs(batch),
            answer_tokens=_answer_tokens(config, groups),
        )
        session.voice.say(plan.line())
        if self.main:
            self.folder.update(memory=plan.to_json())
        return plan.tokens

    def _observe(self, trainer: PalateTrainer, metrics_file: JsonlWriter | None) -> None:
        """Who looks at every step: the log first, so that a run that health ends has its last numbers on disk."""
        if metrics_file is not None:
            self._observers.append(
                lambda step, metrics: metrics_file.write(
                    {"step": step, "split": "train", "epoch": trainer.state.epoch, **metrics}
                )
            )
        assert self._watch is not None
        self._observers.append(self._watch.on_step)

    def _on_step(self, step: int, metrics: dict[str, float]) -> None:
        self.last = metrics
        for observe in self._observers:
            observe(step, metrics)

    def _samples(self, stack: contextlib.ExitStack) -> SampleWriter | None:
        session, config = self.session, self.session.config
        if not self.main or not isinstance(config, SampleFields) or not config.sample_prompts:
            return None
        return SampleWriter(
            session.data.prompts[: config.sample_prompts],
            session.template,
            session.precision,
            config.sample_max_new_tokens,
            stack.enter_context(JsonlWriter(self.folder.samples)),
        )

    def _evaluate(self, trainer: PalateTrainer) -> dict[str, float]:
        """The evaluation of the weights that the run ends with; made now unless the last step's or the best's was."""
        if not self.session.data.evaluation:
            return {}
        state = trainer.state
        ends_with = state.global_step
        if trainer.args.load_best_model_at_end and state.best_model_checkpoint:
            ends_with = state.best_global_step
        done = [row for row in state.log_history if "eval_loss" in row and row["step"] == ends_with]
        with self.session.voice.timed("evaluate"):
            values = done[-1] if done else trainer.evaluate()
        return {name: float(value) for name, value in values.items() if name.startswith("eval_")}

    def _rewind(self, checkpoint: Path | None) -> None:
        """What was logged after the checkpoint will be logged again; the last row before it is the last so far."""
        rewind_samples(self.folder.samples, checkpoint)
        self._before = rewind_metrics(self.folder.metrics, checkpoint)
        rows = [row for row in self._before if row["split"] == "train"]
        if rows:
            self.last = {name: value for name, value in rows[-1].items() if name not in ("step", "split", "epoch")}

    def _stopped(self, trainer: PalateTrainer, signal_number: int) -> Stopped:
        step, of = trainer.state.global_step, trainer.state.max_steps
        if self.main:
            self.folder.finish("stopped", **self.outcome(self.last))
        where = (
            f"stopped at step {step} of {of} with a checkpoint" if step else "stopped before the end of the first step"
        )
        return Stopped(f"{where}; go on with: --set resume_from_checkpoint=true", signal_number)

    def outcome(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """What run.json says of how it went."""
        voice = self.session.voice
        return {
            "final_metrics": dict(metrics),
            "health": [finding.to_json() for finding in (self._watch.findings if self._watch else ())],
            "notices": voice.lines,
            "timings": voice.timings,
            "peak_memory_bytes": peak_memory_bytes(self.session.device),
        }


def _answer_tokens(config: RunConfig, groups: Sequence[EncodedGroup]) -> int:
    """Tokens of the longest prompt with a longest answer; 0 where this process samples none."""
    if not isinstance(config, RolloutFields) or config.rollout_url is not None:
        return 0
    return max(group.longest_row for group in groups)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
