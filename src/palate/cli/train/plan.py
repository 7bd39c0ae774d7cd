"""`palate plan`: a config with all defaults, checked without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from palate.charts.text import amount
from palate.cli.arguments import AsJson, ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import print_json, print_note, print_result
from palate.cli.models import with_model_paths
from palate.errors import DataError, ModelError, UsageError
from palate.records import (
    DatasetRequest,
    Demonstration,
    LabelledCompletion,
    PreferencePair,
    Ranking,
    Record,
    ScoredCompletion,
)

if TYPE_CHECKING:
    from palate.capacity.estimate import Capacity
    from palate.config.load import LoadedConfig
    from palate.config.pipeline import Pipeline, PlannedRun
    from palate.config.run import RunConfig
    from palate.config.sweep import Sweep

# What one loss value is computed on, by the family of the objective.
ROWS = {"paired": "a pair", "ranked": "a ranking", "unpaired": "an answer", "reward": "a row"}
_KINDS: Mapping[str, type[Record]] = {"ranked": Ranking, "unpaired": LabelledCompletion}
"""Records of other families than pairs."""
_COUNTED = 100_000_000
"""Bytes of data up to which the rows are counted."""


def command(
    words: Words = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware", metavar="NAME", help="Estimate memory, time and disk on it: H100, H200, A100-80, this, …"
        ),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="Number of these devices.")] = 1,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Price of a device and hour, for the cost.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rows, instead of those of the dataset.")] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option("--prompt-tokens", min=0, help="Tokens of their prompts.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", min=1, help="Tokens of each of their answers.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a config and show every key with its value, without running it; ignored keys are listed with the reason.

    Example: palate plan run.yaml --hardware H100 --devices 8 --price 2.5
    """
    given = (rows, prompt_tokens, answer_tokens)
    if hardware is None and (devices > 1 or price is not None or given != (None,) * 3):
        raise UsageError("--devices, --price, --rows and the tokens belong to an estimate; add --hardware NAME")
    if None in given and given != (None,) * 3:
        raise UsageError("--rows, --prompt-tokens and --answer-tokens are given together")
    path, changes = config_and_overrides(words, config_file, overrides)
    changes = with_model_paths(path, changes)

    from palate.config.pipeline import is_pipeline, load_pipeline
    from palate.config.sweep import is_sweep, load_sweep

    several = is_sweep(path, changes) or is_pipeline(path, changes)
    if hardware is not None and several:
        raise UsageError(
            f"{path}: --hardware estimates a single run, and this file has several; write one config for each"
        )
    if not several:
        estimate = None if hardware is None else partial(_capacity, hardware, devices, price, given)
        planned = _planned_run(path, changes, devices, estimate)
    elif is_sweep(path, changes):
        sweep = load_sweep(path, changes)
        points = [{"name": one.name, "config": one.config.resolved()} for one in sweep.points]
        facts = {"kind": "sweep", "output_dir": str(sweep.output_dir), "points": points}
        planned = Planned(sweep.notices, as_sweep(sweep), facts)
    else:
        pipeline = load_pipeline(path, changes)
        planned = Planned(pipeline.notices, as_pipeline(pipeline), _plain(pipeline))
    if as_json:
        print_json({**planned.facts, "notices": list(planned.notices)})
        return
    for line in planned.notices:
        print_note(line)
    print_result(planned.text)


class Planned(NamedTuple):
    """What is printed: notes, text for a person, facts for a program."""

    notices: Sequence[str]
    text: str
    facts: dict[str, Any]


def _planned_run(
    path: str, changes: Sequence[str], devices: int, estimate: Callable[[RunConfig], Capacity] | None
) -> Planned:
    from palate.config.load import load_config

    loaded = load_config(path, changes)
    steps, doubts = _steps(loaded.config, devices)
    known = {**facts(loaded.config), "optimiser steps": steps}
    text, plain = as_config(loaded, known), {"config": loaded.config.resolved(), "facts": known}
    if estimate is not None:
        from palate.capacity.text import as_lines

        found = estimate(loaded.config)
        plain["capacity"] = found.to_json()
        text += "\n\n" + "\n".join(f"# {line}".rstrip() for line in as_lines(found))
    return Planned([*loaded.notices, *doubts], text, plain)


def _steps(config: RunConfig, devices: int) -> tuple[str, list[str]]:
    """The number of steps, and settings that do not fit it; of data that are small files on this machine."""
    from palate.config.steps import doubtful_settings, step_count
    from palate.data.sources.spec import find_sources
    from palate.data.stream import RecordStream

    request = DatasetRequest.of_run(config.resolved(), config.dataset)
    try:
        files = [source.files for source in find_sources(request)]
        if not all(files) or sum(path.stat().st_size for each in files for path in each) > _COUNTED:
            return "not counted: the data is large, or not on this machine", []
        held = 0.0 if config.eval_dataset is not None else config.val_size
        stream = RecordStream(
            request, _kind(config), temperature=config.mix_temperature, caps=config.mix_caps, val_size=held
        )
    except DataError as error:
        return f"not counted: {error}", []
    rows, held_out = stream.count(held_out=False), stream.count(held_out=True)
    doubts = doubtful_settings(
        config,
        rows,
        held_out if config.eval_dataset is None else None,
        devices=devices,
        parameters=_parameters(config.model_name_or_path),
    )
    more = f" on {amount(devices, 'device')}" if devices > 1 else ""
    counted = f"{rows:,} training rows" + (f" ({held_out:,} held out)" if held_out else "")
    return f"{step_count(config, rows, devices):,} from {counted}{more}", list(doubts)


def _parameters(model: str) -> int | None:
    """The number of parameters of a model on this machine."""
    from palate.capacity.shapes import SIZES, read_shape

    try:
        here = model.lower() in SIZES or (Path(model) / "config.json").is_file()
        return read_shape(model).counts.total if here else None
    except ModelError:
        return None


def _kind(config: RunConfig) -> type[Record]:
    """The records that the run trains on."""
    from palate.config.stages.preference import ObjectiveChoice

    if config.stage == "sft":
        return Demonstration
    if not isinstance(config, ObjectiveChoice):
        return Record
    row = config.objectives[0].row
    return ScoredCompletion if row.name == "reward_regression" else _KINDS.get(row.family, PreferencePair)


def _capacity(
    hardware: str,
    devices: int,
    price: float | None,
    given: tuple[int | None, int | None, int | None],
    config: RunConfig,
) -> Capacity:
    """The estimate for the config on the hardware; `given` are rows, tokens of a prompt and of an answer, or None."""
    from palate.capacity.estimate import estimate
    from palate.capacity.hardware import parse_hardware
    from palate.capacity.job import Job, Row, Workload
    from palate.capacity.shapes import read_shape

    this = None
    if hardware.partition(",")[0].strip().lower() == "this":
        from palate.training.setup.speed import this_machine

        this = this_machine()
    device = parse_hardware(hardware, this)
    shape = read_shape(config.model_name_or_path, config.model_revision)
    rows, prompt, answer = given
    if rows is None or prompt is None or answer is None:
        from palate.training.setup.workload import workload_of

        work = workload_of(config)
    else:
        answers = getattr(config, "num_generations", 2 if config.stage in ("dpo", "rm") else 1)
        work = Workload(rows, [Row(prompt, (answer,) * answers)], "lengths as given")
    separate = getattr(config, "ref_model", None)
    reference = read_shape(separate) if separate not in (None, config.model_name_or_path) else None
    named = [term.reward or "" for term in getattr(config, "rewards", ())]
    rewards = tuple(read_shape(name) for name in named if (Path(name) / "config.json").is_file())
    return estimate(Job(config, shape, work, device, devices, reference, rewards), price)


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


def as_pipeline(pipeline: Pipeline) -> str:
    """The same for a pipeline: each run with the model it starts from; its defaults are left out."""
    first = pipeline.runs[0].config
    lines = [f"# {amount(len(pipeline.runs), 'run')}, each from the one before; --json shows the defaults of each"]
    lines += ["", _line("output_dir", str(pipeline.output_dir))]
    lines += [_line(key, value) for key, value in pipeline.drift.model_dump(mode="json").items() if value is not None]
    if pipeline.kind == "rounds":
        lines.append(_line("stage", first.stage))
    lines.append(f"{pipeline.kind}:")
    for planned in pipeline.runs:
        lines += [f"  # {planned.name}, in {planned.config.output_dir}"]
        lines += [f"  # {name}: {fact}" for name, fact in facts(planned.config).items()]
        keys = [_line(key, value) for key, value in _given(planned).items()]
        lines += [f"  {'-' if number == 0 else ' '} {line}" for number, line in enumerate(keys)]
    return "\n".join(lines)


def as_sweep(sweep: Sweep) -> str:
    """The same for a sweep: the keys that all runs share, and the values of each; its defaults are left out."""
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
        lines += [f"  # {point.config.output_dir}", f"  - {dump_yaml(dict(point.values))}"]
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


def _plain(pipeline: Pipeline) -> dict[str, Any]:
    runs = [
        {
            "name": planned.name,
            "config": planned.config.resolved(),
            "sampling": None if planned.sampling is None else planned.sampling.model_dump(mode="json"),
            "facts": facts(planned.config),
        }
        for planned in pipeline.runs
    ]
    drift = pipeline.drift.model_dump(mode="json")
    return {"kind": pipeline.kind, "output_dir": str(pipeline.output_dir), "drift": drift, "runs": runs}


def _line(key: str, value: Any) -> str:
    from palate.config.reader import dump_yaml

    return f"{key}: {dump_yaml(value)}"
