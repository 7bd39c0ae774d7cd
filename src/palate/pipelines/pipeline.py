"""A pipeline's runs, each from the one before: finished ones are not run again, interrupted ones go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir, plain, read_json, remove_folder, remove_leftovers, write_json
from palate.config.pipeline import Pipeline, PlannedRun
from palate.config.run import RunConfig
from palate.data import load_records, open_source
from palate.data.prompts import load_prompts
from palate.errors import ArtifactError, DataError, Stopped
from palate.evaluation.held_out import held_out_pairs
from palate.evaluation.subject import RunSpec
from palate.models.cpu.allocator import give_back_memory
from palate.models.precision import default_device
from palate.pipelines.drift import Drift, measure_drift
from palate.pipelines.inputs import check_inputs
from palate.pipelines.models import starting_model, trained_model
from palate.pipelines.sampling import check_sampling, make_pairs
from palate.records import PreferencePair, Record
from palate.training.online.rewards import JudgeRewards
from palate.training.run import train
from palate.training.setup.environment import is_main_process, join_processes, wait_for_all

# Keys of a run that say how it is carried out, not what it makes.
_NOT_COMPARED = ("resume_from_checkpoint", "overwrite_output_dir", "report_to", "run_name", "wandb_project")


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a pipeline left behind.

    Attributes:
        output_dir: of the whole; `pipeline.json` in it has all of this.
        runs: the run directories, in order.
        model: the last policy's run directory.
        drift: per run that made a policy its drift against the first model, as JSON values.
    """

    output_dir: Path
    runs: list[Path]
    model: Path
    drift: dict[str, dict[str, Any]]


def run_pipeline(
    pipeline: Pipeline,
    *,
    judges: JudgeRewards | None = None,
    say: Callable[[str], None] = lambda _line: None,
    finished: Callable[[Path], None] = lambda _run: None,
) -> PipelineResult:
    """Make every run that is not there yet.

    Args:
        judges: as `training.run.train` takes it.
        say: lines for a person.
        finished: called with the directory of each run that was made now.

    Of several processes all train, and the main one alone samples, measures and writes.

    Raises:
        ArtifactError: a finished run was made by another config, or from a run that is gone; names key or run.
        Stopped: a signal ended a run; the same call goes on with it.
    """
    folder, main = pipeline.output_dir, is_main_process()
    join_processes(default_device(), pipeline.runs[0].config.ddp_timeout)
    if (folder / "run.json").exists():
        raise ArtifactError(f"{folder}: is a run, not a pipeline; choose another output_dir")
    if main and folder.is_dir():
        remove_leftovers(folder)
    if main and pipeline.overwrite:
        _remove(pipeline)
    wait_for_all()
    state = folder / "pipeline.json"
    drift: dict[str, dict[str, Any]] = read_json(state).get("drift", {}) if state.exists() else {}
    check_inputs(_unfinished(pipeline))
    _check_drift_prompts(pipeline)
    for planned in pipeline.runs:
        done = is_finished(planned)
        wait_for_all()  # each has looked before the main process writes
        if done:
            say(f"{planned.name}: finished already, {planned.config.output_dir}")
        else:
            drift.pop(planned.name, None)  # of a run that was deleted since
            if main:
                _write(pipeline, "running", drift)
            make(planned, judges, say)
            if main:
                finished(Path(planned.config.output_dir))
        if main and planned.name not in drift and planned.config.stage != "rm" and pipeline.drift.drift_samples:
            measured = _drift(pipeline, planned)
            say(f"{planned.name}: {measured.line()}")
            drift[planned.name] = plain(measured.to_json())
            _write(pipeline, "running", drift)
            give_back_memory()
        wait_for_all()  # the next one reads what this one left
    if main:
        _write(pipeline, "completed", drift)
    wait_for_all()
    runs = [Path(planned.config.output_dir) for planned in pipeline.runs]
    policies = [Path(planned.config.output_dir) for planned in pipeline.runs if planned.config.stage != "rm"]
    return PipelineResult(folder, runs, policies[-1] if policies else runs[-1], drift)


def make(planned: PlannedRun, judges: JudgeRewards | None, say: Callable[[str], None]) -> None:
    """Train one run, from where an earlier try left it, on pairs of its own making where it has `sampling`."""
    folder, main = Path(planned.config.output_dir), is_main_process()
    if main and planned.sampling is not None:
        make_pairs(planned.name, planned.config, planned.sampling, say=say)
        give_back_memory()
    if main and folder.is_dir():
        remove_leftovers(folder)  # a kill within the very first write leaves nothing that looks like a run
    wait_for_all()
    say(f"{planned.name}: stage {planned.config.stage}, {folder}")
    try:
        # In a new directory this starts from the beginning.
        train(planned.config.model_copy(update={"resume_from_checkpoint": True}), judges=judges)
    except Stopped as stopped:
        said = str(stopped).partition(";")[0]
        raise Stopped(
            f"{planned.name}: {said}; run the same command again to go on", stopped.exit_code - 128
        ) from stopped
    give_back_memory()


def is_finished(planned: PlannedRun) -> bool:
    """Whether the run is there, made by the same config."""
    if planned.sampling is not None:
        check_sampling(planned.config, planned.sampling)
    run = RunDir(planned.config.output_dir)
    if not run.run_json.exists():
        return False
    facts = run.read()
    made = facts.get("config")
    if isinstance(made, dict):
        wanted = planned.config.resolved()
        changed = [key for key in wanted if key not in _NOT_COMPARED and plain(wanted[key]) != made.get(key)]
        if changed:
            key = changed[0]
            raise ArtifactError(
                f"{run.path}: was begun with {key}: {made.get(key)}, the config now says {wanted[key]}; put it back, "
                "choose another output_dir, or begin anew with overwrite_output_dir: true"
            )
    return facts.get("status") == "completed"


def _unfinished(pipeline: Pipeline) -> list[PlannedRun]:
    """What is still to be made.

    Raises:
        ArtifactError: a finished run starts from one of them, which was deleted: it was made from another one.
    """
    missing: dict[str, PlannedRun] = {}
    for planned in pipeline.runs:
        config = planned.config
        if not is_finished(planned):
            missing[config.output_dir] = planned
            continue
        start = next((one for one in (config.model_name_or_path, *config.adapters) if one in missing), None)
        if start is not None:
            raise ArtifactError(
                f"{config.output_dir}: was made from {start}, which is no longer there; delete it too, or begin anew "
                "with overwrite_output_dir: true"
            )
    return list(missing.values())


def _remove(pipeline: Pipeline) -> None:
    """Begin anew. What was measured of the old runs goes first, and each run at once: a kill leaves no half run."""
    (pipeline.output_dir / "pipeline.json").unlink(missing_ok=True)
    for planned in pipeline.runs:
        run = Path(planned.config.output_dir)
        if (run / "run.json").exists():
            remove_folder(run)
        if planned.sampling is not None:
            remove_folder(Path(str(planned.config.dataset)).parent)


def _write(pipeline: Pipeline, status: str, drift: dict[str, dict[str, Any]]) -> None:
    runs = [
        {"name": planned.name, "stage": planned.config.stage, "output_dir": planned.config.output_dir}
        for planned in pipeline.runs
    ]
    write_json(pipeline.output_dir / "pipeline.json", {"schema": 1, "status": status, "runs": runs, "drift": drift})


# ---- drift


def _drift(pipeline: Pipeline, planned: PlannedRun) -> Drift:
    first, settings = pipeline.runs[0].config, pipeline.drift
    pairs = _fixed_pairs(pipeline)
    return measure_drift(
        starting_model(first),
        trained_model(planned.config),
        _fixed_prompts(pipeline, pairs)[: settings.drift_samples],
        pairs,
        precision=first.precision,
        max_new_tokens=settings.drift_max_new_tokens,
        cutoff_len=first.cutoff_len,
        seed=first.seed,
    )


def _check_drift_prompts(pipeline: Pipeline) -> None:
    """They are read after the first run, and looked for before it."""
    named = pipeline.drift.drift_prompts
    if named is not None and pipeline.drift.drift_samples:
        try:
            open_source(named, dataset_dir=pipeline.runs[0].config.dataset_dir)
        except DataError as error:
            raise DataError(f"drift_prompts: {error}") from error


def _fixed_pairs(pipeline: Pipeline) -> list[PreferencePair]:
    """What the first run on pairs held out; for rounds that make their own pairs, the first round's."""
    for planned in pipeline.runs:
        config = planned.config
        if config.stage == "dpo" and (config.eval_dataset is not None or config.val_size):
            if planned.sampling is not None and not Path(str(config.dataset)).exists():
                continue
            start = starting_model(config)
            return held_out_pairs(RunSpec(Path(config.output_dir), config.resolved(), start, start))
    return []


def _fixed_prompts(pipeline: Pipeline, pairs: list[PreferencePair]) -> Sequence[Record]:
    first: RunConfig = pipeline.runs[0].config
    named = pipeline.drift.drift_prompts
    sampling = pipeline.runs[0].sampling
    if named is None and pairs:
        return pairs
    if named is None and sampling is None:
        loaded = load_records(first.dataset, kind=Record, dataset_dir=first.dataset_dir, columns=first.columns)
        return [record for record in loaded.records if record.prompt]
    source = named if named is not None or sampling is None else sampling.prompts
    return load_prompts(source or "", dataset_dir=first.dataset_dir)[0]
