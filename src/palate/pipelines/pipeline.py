"""Runs a pipeline: runs that start from each other. Finished runs are kept, interrupted ones continue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, plain, read_json, remove_folder, remove_leftovers, sole_writer, write_json
from palate.config.pipeline import Pipeline, PlannedRun
from palate.config.stages.rollout import RolloutFields
from palate.data.scores import rule_score
from palate.data.sources.spec import find_sources
from palate.errors import ArtifactError, ConfigError, DataError, Stopped
from palate.feedback.judges.load import is_api_judge, load_judge, members_of
from palate.models.cpu.allocator import give_back_memory
from palate.models.precision import default_device
from palate.pipelines.drift import check_drift_prompts, measure_drift
from palate.pipelines.sampling import check_sampling, make_pairs
from palate.records import DatasetRequest
from palate.training.online.rewards import JudgeRewards
from palate.training.processes import is_main_process, join_processes, wait_for_all
from palate.training.run import train

# Keys that do not change what a run produces.
_NOT_COMPARED = ("resume_from_checkpoint", "overwrite_output_dir", "report_to", "run_name", "wandb_project", "project")


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """A finished pipeline, as in `pipeline.json` of its output_dir.

    Attributes:
        output_dir: folder of the pipeline.
        runs: the run directories, in order.
        model: the run directory of the last policy.
        drift: run name → its drift from the first model, as JSON values; for runs that train a policy.
    """

    output_dir: Path
    runs: list[Path]
    model: Path
    drift: dict[str, dict[str, Any]]


def run_pipeline(
    pipeline: Pipeline,
    *,
    judges: JudgeRewards | None = None,
    on_progress: Callable[[str], None] = lambda _line: None,
    finished: Callable[[Path], None] = lambda _run: None,
) -> PipelineResult:
    """Train every run that is not finished.

    All processes train; only the main one samples, measures and writes.

    Args:
        judges: as for `training.run.train`.
        finished: called with the directory of each run that was trained now.

    Raises:
        ArtifactError: a finished run has another config, or was made from a run that was deleted; names key or run.
            Or another process writes to the folder.
        Stopped: a signal ended a run; the same call continues it.
    """
    folder = pipeline.output_dir
    state = folder / "pipeline.json"
    check_inputs(pipeline.runs if pipeline.overwrite else _unfinished(pipeline))
    check_drift_prompts(pipeline)
    with writing(folder, "pipeline", pipeline.runs, overwrite=pipeline.overwrite) as main:
        drift: dict[str, dict[str, Any]] = read_json(state).get("drift", {}) if state.exists() else {}
        for planned in pipeline.runs:
            done = is_finished(planned)
            wait_for_all()  # every process has checked before the main one writes
            if done:
                on_progress(f"{planned.name}: finished already, {planned.config.output_dir}")
            else:
                drift.pop(planned.name, None)  # it was measured on an earlier run, which has been deleted
                if main:
                    _write(pipeline, "running", drift)
                make(planned, judges, on_progress)
                if main:
                    finished(Path(planned.config.output_dir))
            if main and planned.name not in drift and planned.config.stage != "rm" and pipeline.drift.drift_samples:
                measured = measure_drift(pipeline, planned)
                on_progress(f"{planned.name}: {measured.line()}")
                drift[planned.name] = plain(measured)
                _write(pipeline, "running", drift)
                give_back_memory()
            wait_for_all()  # the next run reads the files of this one
        if main:
            _write(pipeline, "completed", drift)
        wait_for_all()
    runs = [Path(planned.config.output_dir) for planned in pipeline.runs]
    policies = [Path(planned.config.output_dir) for planned in pipeline.runs if planned.config.stage != "rm"]
    return PipelineResult(folder, runs, policies[-1] if policies else runs[-1], drift)


@contextlib.contextmanager
def writing(folder: Path, kind: str, runs: Sequence[PlannedRun], *, overwrite: bool) -> Iterator[bool]:
    """A context in which the processes have joined and no other command writes to the folder of a pipeline or sweep.

    Gives True in the main process. An error also ends the status in the state file.

    Args:
        overwrite: delete the state file and the runs first.

    Raises:
        ArtifactError: the folder is a run directory, or another process is in this context.
    """
    main, state = is_main_process(), folder / f"{kind}.json"
    sharded = any(planned.config.fsdp for planned in runs)
    join_processes(default_device(), runs[0].config.ddp_timeout, fsdp=sharded)
    if (folder / "run.json").exists():
        raise ArtifactError(f"{folder}: is a run, not a {kind}; choose another output_dir")
    with sole_writer(state) if main else contextlib.nullcontext():
        if main:
            remove_leftovers(folder)
        if main and overwrite:
            _remove(state, runs)
        wait_for_all()
        try:
            yield main
        except BaseException as error:  # interrupts included: the status must not stay "running"
            with contextlib.suppress(ArtifactError):
                if main and state.exists() and (facts := read_json(state)).get("status") == "running":
                    stopped = isinstance(error, Stopped | KeyboardInterrupt)
                    reason = {} if stopped else {"error": str(error).partition("\n")[0]}
                    write_json(state, {**facts, "status": "stopped" if stopped else "failed", **reason})
            raise


def _remove(state: Path, runs: Sequence[PlannedRun]) -> None:
    """Delete the state file, then the runs, so that a kill in between leaves no measurement of a deleted run."""
    state.unlink(missing_ok=True)
    for planned in runs:
        run = Path(planned.config.output_dir)
        if (run / "run.json").exists():
            remove_folder(run)
        if planned.sampling is not None:
            remove_folder(Path(str(planned.config.dataset)).parent)


def check_inputs(runs: Sequence[PlannedRun]) -> None:
    """Check that datasets exist and that judges and rewards load, before the first run starts.

    A judge or reward that is a folder may be the result of an earlier run, which does not exist yet.

    Raises:
        DataError, ConfigError: names the run and what is missing.
    """
    for planned in runs:
        try:
            _check_inputs(planned)
        except (DataError, ConfigError) as error:
            raise type(error)(f"{planned.name}: {error}") from error


def _check_inputs(planned: PlannedRun) -> None:
    config, sampling = planned.config, planned.sampling
    for dataset in (config.dataset if sampling is None else sampling.prompts, config.eval_dataset):
        if dataset is not None:
            find_sources(DatasetRequest(dataset, config.dataset_dir))
    named = [] if sampling is None else [("judge", sampling.judge)]
    if isinstance(config, RolloutFields):
        named += [("rewards", term.name) for term in config.rewards]
    for key, member in [(key, member) for key, spec in named for member in members_of(spec)]:
        if is_api_judge(member):
            load_judge(member, key=key)  # asks nothing yet
        elif not Path(member).is_dir():
            rule_score(member, key)


def make(planned: PlannedRun, judges: JudgeRewards | None, on_progress: Callable[[str], None]) -> None:
    """Train or continue one run; with `sampling`, its pairs are made first."""
    folder, main = Path(planned.config.output_dir), is_main_process()
    if main and planned.sampling is not None:
        make_pairs(planned.name, planned.config, planned.sampling, on_progress=on_progress)
        give_back_memory()
    if main and folder.is_dir():
        remove_leftovers(folder)  # a kill in the first write leaves temporary files
    wait_for_all()
    on_progress(f"{planned.name}: stage {planned.config.stage}, {folder}")
    try:
        # In a new directory this starts at step 0.
        train(planned.config.model_copy(update={"resume_from_checkpoint": True}), judges=judges)
    except Stopped as stopped:
        reason = str(stopped).partition(";")[0]
        raise Stopped(
            f"{planned.name}: {reason}; run the same command again to continue", stopped.exit_code - 128
        ) from stopped
    give_back_memory()


def is_finished(planned: PlannedRun) -> bool:
    """Whether the run is complete.

    Raises:
        ArtifactError: it was started with another config.
    """
    if planned.sampling is not None:
        check_sampling(planned.config, planned.sampling)
    run = RunDir(planned.config.output_dir)
    if not run.run_json.exists():
        return False
    facts = run.read()
    recorded = facts.get("config")
    if isinstance(recorded, dict):
        for key, value in planned.config.resolved().items():
            if key not in _NOT_COMPARED and plain(value) != recorded.get(key):
                raise ArtifactError(
                    f"{run.path}: was started with {key}: {recorded.get(key)}, the config now says {value}; restore "
                    "it, choose another output_dir, or start again with overwrite_output_dir: true"
                )
    return facts.get("status") == "completed"


def _unfinished(pipeline: Pipeline) -> list[PlannedRun]:
    """The runs that are not finished.

    Raises:
        ArtifactError: a finished run starts from a run that has been deleted.
    """
    missing: dict[str, PlannedRun] = {}
    for planned in pipeline.runs:
        config = planned.config
        if not is_finished(planned):
            missing[config.output_dir] = planned
            continue
        start = next((path for path in (config.model_name_or_path, *config.adapters) if path in missing), None)
        if start is not None:
            raise ArtifactError(
                f"{config.output_dir}: was made from {start}, which is no longer there; delete it too, or start again "
                "with overwrite_output_dir: true"
            )
    return list(missing.values())


def _write(pipeline: Pipeline, status: str, drift: dict[str, dict[str, Any]]) -> None:
    runs = [
        {"name": planned.name, "stage": planned.config.stage, "output_dir": planned.config.output_dir}
        for planned in pipeline.runs
    ]
    write_json(pipeline.output_dir / "pipeline.json", {"schema": 1, "status": status, "runs": runs, "drift": drift})
