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
from palate.cli.train.plan_text import as_config, as_pipeline, as_sweep, facts, pipeline_facts
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
    from palate.config.run import RunConfig

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
        known = {"kind": "sweep", "output_dir": str(sweep.output_dir), "points": points}
        planned = Planned(sweep.notices, as_sweep(sweep), known)
    else:
        pipeline = load_pipeline(path, changes)
        planned = Planned(pipeline.notices, as_pipeline(pipeline), pipeline_facts(pipeline))
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
        from palate.capacity.estimate import as_lines

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
