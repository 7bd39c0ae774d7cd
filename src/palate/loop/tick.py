"""Runs the steps of a cycle that are ready, and says what the cycle waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

from palate.artifacts import plain, remove_folder, write_errors
from palate.errors import PalateError, UsageError
from palate.loop.cycle import Loop, begin, config_hash, work_of
from palate.loop.ledger import last_cycle, save_step, steps_of
from palate.loop.process import sole_tick
from palate.loop.status import STEPS
from palate.loop.steps.deploy import end_canary_of, is_allowed
from palate.loop.steps.table import STEP, input_hash
from palate.loop.work import Command, Done, Inputs, Waiting, Work, file_hashes
from palate.store.loop_tables import Cycle, CycleStep
from palate.store.tables import utc_now

RunCommand: TypeAlias = Callable[[Sequence[str], Path], int]
"""Runs a palate command (its words, the log to append its output to) and returns its exit code."""
_ERROR = "palate: error: "
_ASKED = "to ask: "
_FROZEN_BY = "gate"
"""Once this step is done, a change of earlier files changes nothing any more."""


@dataclass(slots=True)
class Ticked:
    """What a tick did.

    Attributes:
        cycle: its number; 0 if another tick works.
        done: steps that ended.
        waiting: what the cycle waits for.
        failed: the step that failed, and why.
        outcome: of the cycle, if it ended.
        why: it ended so.
        edited: whether the configs were edited since the cycle began; that counts from the next one.
    """

    cycle: int = 0
    done: list[str] = field(default_factory=list)
    waiting: Waiting | None = None
    failed: tuple[str, str] | None = None
    outcome: str | None = None
    why: str = ""
    edited: bool = False

    @property
    def busy(self) -> bool:
        """Whether another tick works, so that this one did nothing."""
        return self.cycle == 0


def tick(
    loop: Loop,
    run: RunCommand,
    *,
    now: Callable[[], datetime] = utc_now,
    on_progress: Callable[[str], None] = lambda _line: None,
    until: str | None = None,
) -> Ticked:
    """Run every step that is ready, until the cycle waits, ends, or a step fails.

    Only one tick of a loop works at a time. A tick that is killed leaves its step `running`; the next one runs the step
    again, without the commands that had ended.

    Args:
        until: the step after which it stops; later steps do not run, also if this one was done before.

    Raises:
        ConfigError: something that a new cycle needs is wrong or missing.
        StoreError: the database cannot be used.
    """
    with sole_tick(loop.store, loop.folder, loop.config.name) as free:
        if not free:
            return Ticked()
        cycle = begin(loop, now())
        ticked = Ticked(cycle.number, edited=cycle.config_hash != config_hash(loop))
        while ticked.outcome is None:
            name = _next_step(loop, cycle, now())
            if until is not None and STEPS.index(name) > STEPS.index(until):
                break
            found = _advance(loop, cycle, name, run, now, on_progress)
            if isinstance(found, Waiting):
                ticked.waiting = found
                break
            if isinstance(found, str):
                ticked.failed = (name, found)
                break
            ticked.done.append(name)
            if found.ends:
                ticked.outcome, ticked.why = found.ends
        return ticked


def abandon(loop: Loop, reason: str, now: datetime) -> int:
    """End the cycle that goes on, and its canary; returns its number. Its interactions are collected again.

    Raises:
        UsageError: there is none, there is no reason, or a tick works on it.
    """
    if not reason.strip():
        raise UsageError("say why: --reason '…'")
    with sole_tick(loop.store, loop.folder, loop.config.name) as free:
        cycle = loop.store.read(lambda session: last_cycle(session, loop.config.name))
        if not free:
            raise UsageError("a tick works on this cycle; stop it first")
        if cycle is None or cycle.outcome is not None:
            raise UsageError(f"{loop.config.name} has no cycle that goes on")
        end_canary_of(loop.store, loop.config.alias, cycle.candidate, reason)
        values = {"input_hash": "", "started": now, "state": "skipped", "waits_for": "", "until": None}
        name = next((name for name, row in _rows(loop, cycle).items() if row.state != "done"), "debug")
        figures = {"figures": {"ended": reason}}
        save_step(loop.store, cycle.id, name, outcome="abandoned", **values, output=figures, finished=now)
    return cycle.number


def _rows(loop: Loop, cycle: Cycle) -> dict[str, CycleStep]:
    found = loop.store.read(lambda session: steps_of(session, cycle.id))
    return {name: found[name] for name in STEPS if name in found}


def _next_step(loop: Loop, cycle: Cycle, now: datetime) -> str:
    """The first step that is not done; before the verdict also one whose input files have changed since."""
    rows = _rows(loop, cycle)
    ended = {name for name, row in rows.items() if row.state in ("done", "skipped")}
    work = work_of(loop, cycle, now)
    for name in STEPS[: STEPS.index(_FROZEN_BY) + 1]:
        if name not in ended:
            return name
        if _FROZEN_BY not in ended and input_hash(name, work) != rows[name].input_hash:
            return name
    zeroed = any(work.figures.get(name, {}).get("outcome") in ("ZERO", "REJECTED") for name in ("canary", "deploy"))
    if zeroed or (not is_allowed(work) and "canary" not in rows) or ("debug" in rows and "debug" not in ended):
        return "debug"
    return next(name for name in ("canary", "deploy") if name not in ended)


def _advance(
    loop: Loop,
    cycle: Cycle,
    name: str,
    run: RunCommand,
    now: Callable[[], datetime],
    on_progress: Callable[[str], None],
) -> Done | Waiting | str:
    """Run a step as far as it goes: its end, what it waits for, or why it failed."""
    work = work_of(loop, cycle, now())
    row = _rows(loop, cycle).get(name)
    digest = input_hash(name, work)
    if row is not None and row.input_hash != digest:  # begun with other inputs
        remove_folder(work.path(name))
        row = None
    waiting = _day(work, cycle, name)
    output: dict[str, Any] = dict(row.output) if row is not None else {}
    began = row.started if row is not None and output.get("begun") else work.now
    values: dict[str, Any] = {"input_hash": digest, "started": began, "finished": None, "error": ""}
    if waiting is None:
        output["begun"] = True
        attempts = (row.attempts if row is not None else 0) + (row is None or row.state != "waiting")
        values |= {"state": "running", "attempts": attempts, "waits_for": "", "until": None, "output": output}
        save_step(loop.store, cycle.id, name, **values)
        on_progress(f"{name} of {work.title}")
        work.began = began
        try:
            found = _run(loop, cycle, work, name, output, run)
        except PalateError as error:
            save_step(loop.store, cycle.id, name, state="failed", error=str(error), output=dict(output))
            return str(error)
        if isinstance(found, Done):
            _finish(loop, cycle, work, name, found, output, now())
            return found
        waiting = found
    output["figures"] = {**(output.get("figures") or {}), "next_act": waiting.next_act}
    values |= {"state": "waiting", "waits_for": waiting.reason, "until": waiting.until, "output": dict(output)}
    save_step(loop.store, cycle.id, name, **values)
    return waiting


def _day(work: Work, cycle: Cycle, name: str) -> Waiting | None:
    """The wait for the step's day, unless it has come."""
    day = cycle.config.get("day")
    if work.config.schedule is None or day is None:
        return None
    begins = work.config.schedule.not_before(name, date.fromisoformat(day))
    if begins is None or work.now >= begins:
        return None
    return Waiting(f"its day, {begins:%A %Y-%m-%d} (UTC)", "time", begins)


def _run(loop: Loop, cycle: Cycle, work: Work, name: str, output: dict[str, Any], run: RunCommand) -> Done | Waiting:
    """Run the step's generator and the commands that it yields and that have not ended yet.

    Raises:
        PalateError: a command or the step itself failed.
    """
    steps = STEP[name](work)
    log = work.path("logs", f"{name}.log")
    ran: dict[str, float] = dict(output.get("ran") or {})
    with write_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            item = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if isinstance(item, Waiting):
            return item
        if isinstance(item, Inputs) or item.text in ran:
            continue
        output["command"] = item.text
        save_step(loop.store, cycle.id, name, output=dict(output))
        began = monotonic()
        output["asked"] = _run_command(item, run, log) or output.get("asked", "")
        ran[item.text] = round(monotonic() - began, 3)
        output["ran"] = dict(ran)
        save_step(loop.store, cycle.id, name, output=dict(output))


def _run_command(command: Command, run: RunCommand, log: Path) -> str:
    """Run a command; returns what its judge said about requests, tokens and cost, "" for none.

    Raises:
        PalateError: it failed, with its own line.
    """
    with write_errors(log), log.open("a", encoding="utf-8") as file:
        file.write(f"$ {command.text}\n")
    start = log.stat().st_size
    code = run(command.words, log)
    with log.open("rb") as read:
        read.seek(start)
        lines = read.read().decode(errors="replace").splitlines()
    if code not in command.codes and not (command.enough is not None and command.enough()):
        said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)] or [f"exit code {code}"]
        if code < 0:
            said.append(f"a signal ended it ({-code}); 9 may be a lack of memory")
        raise PalateError(f"palate {' '.join(command.words[:2])}: {said[-1]} (log: {log})")
    return next((line.removeprefix(_ASKED) for line in lines if line.startswith(_ASKED)), "")


def _finish(
    loop: Loop, cycle: Cycle, work: Work, name: str, found: Done, output: dict[str, Any], now: datetime
) -> None:
    values = {
        "state": "skipped" if found.skipped else "done",
        "finished": now,
        "waits_for": "",
        "until": None,
        "output": {**output, "figures": plain(found.figures), "files": file_hashes(found.files, work.folder)},
    }
    save_step(loop.store, cycle.id, name, outcome=found.ends[0] if found.ends else None, **values)
