"""`palate loop init`, `tick`, `run`, `status` and `abandon`: the cycle that a config describes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Exit, Option

from palate.cli.arguments import opened_store
from palate.cli.columns import text_width, two_columns
from palate.cli.console import print_done, print_error, print_json, print_note, print_progress, print_result, wants_json
from palate.errors import ConfigError, Stopped, UsageError

if TYPE_CHECKING:
    from palate.loop.cycle import Loop
    from palate.loop.plan import PlannedStep
    from palate.loop.status import CycleFacts, LoopStatus, StepFacts
    from palate.loop.tick import Ticked

WIDTH = 80
_SHOWN = 40
"""Longest figure in the table; the JSON has paths and hashes too."""
LoopFile = Annotated[Path, Argument(metavar="LOOP.yaml", help="The loop's config.")]
StepName = Annotated[str | None, Option("--until", metavar="STEP", help="Stop after this step.")]


def init_command(
    train: Annotated[str, Option("--train", metavar="CONFIG", help="Config of `palate train`, relative to LOOP.yaml.")],
    prompts: Annotated[
        str, Option("--prompts", metavar="FILE", help="Evaluation prompts, 100 or more; never trained on.")
    ],
    judge: Annotated[str, Option("--judge", help="Judge of the evaluation, or `people`.")],
    file: LoopFile = Path("loop.yaml"),
    name: Annotated[str, Option("--name", help="Name of the loop.")] = "main",
    people: Annotated[bool, Option("--people/--no-people", help="Whether people annotate.")] = True,
    annotator: Annotated[str | None, Option("--annotator", metavar="JUDGE", help="A judge that annotates too.")] = None,
    collect: Annotated[
        str | None, Option("--collect", metavar="FILE", help="Prompts, in place of recorded interactions.")
    ] = None,
    schedule: Annotated[
        Literal["week", "none"], Option("--schedule", help="Monday to Friday, or each step at once.")
    ] = "week",
) -> None:
    """Write a commented config of a loop, and gate.yaml if it is missing; then say what is still to do.

    Example: palate loop init --train dpo.yaml --prompts p.jsonl --judge people
    """
    from palate.artifacts import write_text
    from palate.cli.loop.template import gate_text, loop_text
    from palate.loop.cycle import check_loop

    folder = file.absolute().parent
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file, such as {file / 'loop.yaml'}")
    if file.exists():
        raise UsageError(f"{file} exists; edit it, or name another file")
    if not folder.is_dir():
        raise UsageError(f"{file}: the folder {folder} does not exist; make it, and put the prompts there")
    if not people and annotator is None:
        raise UsageError("--no-people: nobody compares the answers; name a judge with --annotator")
    text = loop_text(
        name=name, train=train, judge=judge, people=people, annotator=annotator, collect=collect, schedule=schedule
    )
    if not (folder / "gate.yaml").exists():
        from palate.data.prompts import load_prompts
        from palate.feedback.judges.load import is_api_judge, load_judge

        with contextlib.chdir(folder):
            count = len(load_prompts(prompts)[0])
        name_of = load_judge(judge).name if is_api_judge(judge) else judge
        write_text(folder / "gate.yaml", gate_text(prompts, count, name_of))
        print_progress(f"written: {folder / 'gate.yaml'}")
    write_text(file, text)
    print_progress(f"written: {file}")
    to_do: tuple[str, ...] = ()
    with _opened(file) as loop:
        try:
            check_loop(loop)
        except ConfigError as error:
            to_do = error.lines
    for line in to_do:
        print_note(f"still to do: {line}")
    text = f"palate loop tick {file} --dry-run shows the commands of a cycle; palate loop tick {file} begins"
    print_done(text, {"config": str(file), "gate": str(folder / "gate.yaml"), "to_do": to_do})


def tick_command(
    file: LoopFile = Path("loop.yaml"),
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the commands with requests, time and cost; run nothing.")
    ] = False,
    until: StepName = None,
) -> None:
    """Run every step that is ready, and exit; exit code 0 also while the cycle waits, 1 if a step failed.

    Example: palate loop tick loop.yaml
    """
    from palate.store.tables import utc_now

    with _opened(file) as loop:
        if dry_run:
            from palate.loop.plan import plan

            planned = plan(loop, utc_now(), until=_step(until))
            text = "\n".join(line for step in planned for line in _planned(step))
            print_done(text, {"steps": planned})
            return
        with _stoppable(loop):
            ticked = _tick(loop, until)
        _print_ticked(ticked)


def run_command(
    file: LoopFile = Path("loop.yaml"),
    until: StepName = None,
    every: Annotated[float, Option("--every", min=1, help="Seconds between ticks while it waits.")] = 60.0,
) -> None:
    """Tick until the cycle ends, a step fails, or people must act; waits for days and for traffic.

    Example: palate loop run --until pairs
    """
    with _opened(file) as loop:
        with _stoppable(loop):
            while True:
                ticked = _tick(loop, until)
                waits = ticked.waiting is not None and ticked.waiting.on != "people"
                if not waits or (until is not None and until in ticked.done):
                    break
                time.sleep(every)
        _print_ticked(ticked)


def status_command(file: LoopFile = Path("loop.yaml")) -> None:
    """Show what each step did, what or whom the cycle waits for, and the next act.

    Example: palate loop status
    """
    from palate.loop.status import loop_status

    with _opened(file) as loop:
        found = loop.store.read(lambda session: loop_status(session, loop.config.name))
    print_done("\n".join(_status(found)), found)


def abandon_command(
    reason: Annotated[str, Option("--reason", help="Why; kept with the cycle.")], file: LoopFile = Path("loop.yaml")
) -> None:
    """End the cycle that goes on, and its canary; its interactions are collected again by the next one.

    Example: palate loop abandon --reason "wrong judge in loop.yaml"
    """
    from palate.loop.tick import abandon
    from palate.store.tables import utc_now

    with _opened(file) as loop:
        cycle, name = abandon(loop, reason, utc_now()), loop.config.name
    print_done(f"cycle {cycle} of {name}: abandoned", {"loop": name, "abandoned": cycle})


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Loop]:
    """A context with the loop of a config, in whose folder the process and its commands work, with its store."""
    from palate.loop.config import load_loop_config
    from palate.loop.cycle import Loop
    from palate.store import store_url
    from palate.store.urls import VARIABLE

    if not file.exists():
        raise ConfigError(f"{file}: there is no such config file; palate loop init {file} writes one")
    config = load_loop_config(file)
    file = file.absolute()
    with contextlib.chdir(file.parent):
        os.environ[VARIABLE] = store_url(config.store)  # not on a command line, which may be seen by others
        with opened_store(None, create=True) as store:
            yield Loop(file, config, store)


@contextlib.contextmanager
def _stoppable(loop: Loop) -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM say where the cycle stopped and how it goes on."""
    from palate.loop.process import stops_on_sigterm
    from palate.loop.status import loop_status

    try:
        with stops_on_sigterm():
            yield
    except (KeyboardInterrupt, SystemExit) as error:
        steps = loop.store.read(lambda session: loop_status(session, loop.config.name)).steps
        where = next((f" in the step {step.name}" for step in steps if step.state == "running"), "")
        message = f"stopped{where}; what is done is kept, and palate loop tick {loop.file} goes on from there"
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise Stopped(message, number) from error


def _tick(loop: Loop, until: str | None) -> Ticked:
    from palate.loop.process import run_command as run_child
    from palate.loop.tick import tick

    _step(until)
    return tick(loop, run_child, on_progress=print_progress, until=until)


def _step(name: str | None) -> str | None:
    """The step that `--until` names; raises UsageError if there is no such step."""
    from palate.loop.status import STEPS

    if name is not None and name not in STEPS:
        raise UsageError(f"--until {name}: is no step; steps are {', '.join(STEPS)}")
    return name


def _print_ticked(ticked: Ticked) -> None:
    waiting = ticked.waiting
    if wants_json():
        print_json(ticked)
    elif ticked.busy:
        print_result("another tick works on this loop; nothing done")
    else:
        rows = [("cycle", str(ticked.cycle)), ("done", ", ".join(ticked.done) or "nothing new")]
        if waiting is not None:
            rows.append(("waits for", waiting.reason + _until(waiting.until)))
            rows.append(("next", waiting.next_act or "palate loop tick looks again"))
        if ticked.outcome is not None:
            rows.append(("outcome", f"{ticked.outcome}: {ticked.why}"))
        print_result(_columns(rows))
    if ticked.edited:
        print_note("the configs were edited; this cycle keeps those that it began with, the next one takes the new")
    if ticked.failed is not None:
        print_error(f"{ticked.failed[0]}: {ticked.failed[1]}; the next tick tries again")
        raise Exit(1)


def _planned(step: PlannedStep) -> list[str]:
    cost = step.cost or ("unknown" if "openai:" in step.requests else "none")
    seconds = "unknown" if step.seconds is None else f"{step.seconds:,.0f} s last time"
    rows = [*(("waits for", reason) for reason in step.waits), ("asks", step.requests or "nothing")]
    rows += [("time", seconds if step.commands else "none"), ("cost", cost)]
    return [step.name, *(f"  $ {text}" for text in step.commands), two_columns(rows, width=None), ""]


def _status(found: LoopStatus) -> list[str]:
    cycle = found.cycle
    head = [("loop", found.loop)]
    if cycle is not None:
        head += [("cycle", _cycle(cycle)), ("folder", cycle.folder)]
    steps = [(step.name, f"{step.state:<9}  {_detail(step)}".rstrip()) for step in found.steps]
    rest = [("waits for", found.waits_for or "nothing"), ("next", found.next_act)]
    past = [(f"cycle {one.number}", _cycle(one)) for one in found.past]
    lines = [_columns(head), "", *([_columns(steps, indent=2)] if steps else []), "", _columns(rest)]
    return [*lines, *(["", _columns(past)] if past else [])]


def _columns(rows: Sequence[tuple[str, str]], *, indent: int = 0) -> str:
    return two_columns(rows, width=text_width() or WIDTH, indent=indent)


def _cycle(cycle: CycleFacts) -> str:
    text = f"{cycle.number}: {cycle.incumbent} → {cycle.candidate or 'no candidate yet'}, {cycle.started:%Y-%m-%d}"
    return text if cycle.outcome is None else f"{text}, {cycle.outcome}: {cycle.why}"


def _detail(step: StepFacts) -> str:
    if step.state == "failed":
        return f"{step.error} (attempt {step.attempts})"
    if step.state == "waiting":
        return step.waits_for + _until(step.until)
    if step.state == "running":
        return step.command
    figures: dict[str, Any] = step.figures or {}
    shown = {name: value for name, value in figures.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if len(str(value)) <= _SHOWN)


def _until(when: datetime | None) -> str:
    return "" if when is None else f", until {when:%Y-%m-%d %H:%M} UTC"
