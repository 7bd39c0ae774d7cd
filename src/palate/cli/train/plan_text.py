"""Configs, pipelines and sweeps as `palate plan` prints them: YAML that means the same, with facts as comments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palate.charts.text import amount

if TYPE_CHECKING:
    from palate.config.load import LoadedConfig
    from palate.config.pipeline import Pipeline, PlannedRun
    from palate.config.run import RunConfig
    from palate.config.sweep import Sweep

# What one loss value is computed on, by the family of the objective.
ROWS = {"paired": "a pair", "ranked": "a ranking", "unpaired": "an answer", "reward": "a row"}


def facts(config: RunConfig) -> dict[str, str]:
    """Facts that follow from the config alone, by name; neither model nor data is read."""
    from palate.config.objectives.lookup import loss_at_start
    from palate.config.run import GrpoConfig, PpoConfig
    from palate.config.stages.preference import ObjectiveChoice, ReferenceFields

    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    found = {"examples to a step": f"{batch} on each device"}
    if isinstance(config, ObjectiveChoice):
        members = config.objectives
        start = loss_at_start(members)
        formulas = [one.row.formula if len(members) == 1 else f"{one.weight:g}·[{one.row.formula}]" for one in members]
        found[f"loss of {ROWS[members[0].row.family]}"] = " + ".join(formulas)
        found["loss at step 0"] = "depends on the data" if start is None else f"{start:.4f}"
        if isinstance(config, ReferenceFields):
            reference = config.ref_model or "the policy as it starts"
            found["reference"] = reference if any(one.row.needs_reference for one in members) else "none needed"
    if isinstance(config, PpoConfig | GrpoConfig):
        found["answers to a step"] = f"{batch * config.num_generations} on each device"
        found["reward"] = " + ".join(f"{term.weight:g}·[{term.name}]" for term in config.rewards)
        found["KL taken to"] = config.ref_model or "the policy as it starts"
    return found


def as_config(loaded: LoadedConfig, known: Mapping[str, str]) -> str:
    """YAML that `palate train` reads: the given keys, with facts above and defaults below as comments."""
    given = loaded.config.model_fields_set
    values = loaded.config.resolved()
    lines = [f"# {name}: {fact}" for name, fact in known.items()]
    lines += ["", _line("stage", values.pop("stage"))]
    lines += [_line(key, value) for key, value in values.items() if key in given]
    lines += ["", "# Defaults:"]
    lines += [f"# {_line(key, value)}" for key, value in values.items() if key not in given]
    return "\n".join(lines)


def as_pipeline(pipeline: Pipeline, steps: Mapping[str, str]) -> str:
    """The same for a pipeline: each run with its steps and the model it starts from; its defaults are left out."""
    first = pipeline.runs[0].config
    lines = [f"# {amount(len(pipeline.runs), 'run')}, each from the one before; --json shows the defaults of each"]
    lines += ["", _line("output_dir", str(pipeline.output_dir))]
    lines += [_line(key, value) for key, value in pipeline.drift.model_dump(mode="json").items() if value is not None]
    if pipeline.kind == "rounds":
        lines.append(_line("stage", first.stage))
    lines.append(f"{pipeline.kind}:")
    for planned in pipeline.runs:
        lines += [f"  # {planned.name}, in {planned.config.output_dir}"]
        lines += [f"  # {name}: {fact}" for name, fact in _run_facts(planned, steps).items()]
        keys = [_line(key, value) for key, value in _given(planned).items()]
        lines += [f"  {'-' if number == 0 else ' '} {line}" for number, line in enumerate(keys)]
    return "\n".join(lines)


def as_sweep(sweep: Sweep, steps: Mapping[str, str]) -> str:
    """The same for a sweep: the keys that all runs share, and the steps and values of each, without defaults."""
    from palate.config.reader import dump_yaml

    first = sweep.points[0].config
    shared = {
        key: value
        for key, value in first.resolved().items()
        if key in first.model_fields_set and key not in (*sweep.keys, "output_dir", "stage")
    }
    lines = [f"# {amount(len(sweep.points), 'run')}; --json shows the defaults of each", ""]
    lines += [_line("output_dir", str(sweep.output_dir)), _line("stage", first.stage)]
    lines += [_line(key, value) for key, value in shared.items()]
    lines.append("sweep:")
    for point in sweep.points:
        lines += [f"  # {point.config.output_dir}", f"  # optimiser steps: {steps[point.name]}"]
        lines.append(f"  - {dump_yaml(dict(point.values))}")
    return "\n".join(lines)


def _given(planned: PlannedRun) -> dict[str, Any]:
    """The keys of one run as given in the file, and those that the pipeline sets: the model it starts from."""
    config = planned.config
    values = {
        key: value
        for key, value in config.resolved().items()
        if key == "stage" or (key in config.model_fields_set and key != "output_dir")
    }
    if planned.sampling is None:
        return values
    sampling = planned.sampling.model_dump(mode="json")
    del values["dataset"]  # made by the round itself
    return {**values, **{key: value for key, value in sampling.items() if value is not None}}


def _run_facts(planned: PlannedRun, steps: Mapping[str, str]) -> dict[str, str]:
    return {**facts(planned.config), "optimiser steps": steps[planned.name]}


def pipeline_facts(pipeline: Pipeline, steps: Mapping[str, str]) -> dict[str, Any]:
    """Every run of a pipeline with all its defaults, for a program."""
    runs = [
        {
            "name": planned.name,
            "config": planned.config.resolved(),
            "sampling": None if planned.sampling is None else planned.sampling.model_dump(mode="json"),
            "facts": _run_facts(planned, steps),
        }
        for planned in pipeline.runs
    ]
    drift = pipeline.drift.model_dump(mode="json")
    return {"kind": pipeline.kind, "output_dir": str(pipeline.output_dir), "drift": drift, "runs": runs}


def _line(key: str, value: Any) -> str:
    from palate.config.reader import dump_yaml

    return f"{key}: {dump_yaml(value)}"
