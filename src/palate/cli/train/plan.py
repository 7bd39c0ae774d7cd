"""`palate plan`: a config with all defaults, checked without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Option

from palate.cli.arguments import ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import print_json, print_note, print_result, wants_json
from palate.cli.models import with_model_paths
from palate.cli.train.plan_steps import planned_steps, steps_of_each
from palate.cli.train.plan_text import as_config, as_pipeline, as_sweep, facts, pipeline_facts
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.capacity.estimate import Capacity
    from palate.config.run import RunConfig


def command(
    words: Words = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    hardware: Annotated[
        str | None,
        Option("--hardware", metavar="NAME", help="Estimate memory, time and disk on it: H100, H200, A100-80, this, …"),
    ] = None,
    devices: Annotated[int, Option("--devices", min=1, help="Number of these devices.")] = 1,
    price: Annotated[float | None, Option("--price", min=0, help="Price of a device and hour, for the cost.")] = None,
    rows: Annotated[int | None, Option("--rows", min=1, help="Rows, instead of those of the dataset.")] = None,
    prompt_tokens: Annotated[int | None, Option("--prompt-tokens", min=0, help="Tokens of their prompts.")] = None,
    answer_tokens: Annotated[
        int | None, Option("--answer-tokens", min=1, help="Tokens of each of their answers.")
    ] = None,
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
        steps, doubts = steps_of_each({one.name: one.config for one in sweep.points})
        points = [
            {"name": one.name, "config": one.config.resolved(), "facts": {"optimiser steps": steps[one.name]}}
            for one in sweep.points
        ]
        known = {"kind": "sweep", "output_dir": str(sweep.output_dir), "points": points}
        planned = Planned([*sweep.notices, *doubts], as_sweep(sweep, steps), known)
    else:
        pipeline = load_pipeline(path, changes)
        sampled = {one.name for one in pipeline.runs if one.sampling is not None}
        steps, doubts = steps_of_each({one.name: one.config for one in pipeline.runs}, sampled)
        text, known = as_pipeline(pipeline, steps), pipeline_facts(pipeline, steps)
        planned = Planned([*pipeline.notices, *doubts], text, known)
    if wants_json():
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
    steps, doubts = planned_steps(loaded.config, devices)
    known = {**facts(loaded.config), "optimiser steps": steps}
    text, plain = as_config(loaded, known), {"config": loaded.config.resolved(), "facts": known}
    if estimate is not None:
        from palate.capacity.estimate import as_lines

        found = estimate(loaded.config)
        plain["capacity"] = found.to_json()
        text += "\n\n" + "\n".join(f"# {line}".rstrip() for line in as_lines(found))
    return Planned([*loaded.notices, *doubts], text, plain)


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
    from palate.capacity.job import Job, RowTokens, Workload
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
        work = Workload(rows, [RowTokens(prompt, (answer,) * answers)], "lengths as given")
    separate = getattr(config, "ref_model", None)
    reference = read_shape(separate) if separate not in (None, config.model_name_or_path) else None
    named = [term.reward or "" for term in getattr(config, "rewards", ())]
    rewards = tuple(read_shape(name) for name in named if (Path(name) / "config.json").is_file())
    return estimate(Job(config, shape, work, device, devices, reference, rewards), price)
