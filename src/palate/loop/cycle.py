"""Begins a cycle: its number, folder, incumbent, and the configs that it keeps to its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts import file_hash, json_hash, write_bytes
from palate.artifacts.files import read_bytes
from palate.data.prompts import load_prompts
from palate.errors import ConfigError, DataError, UsageError
from palate.feedback.judges.load import API, JURY, is_api_judge, members_of
from palate.loop.config import PEOPLE, LoopFields, stored_config
from palate.loop.gate.config import GateFields, load_gate_config
from palate.loop.gate.evidence import gate_prompts
from palate.loop.ledger import last_cycle, last_day, steps_of
from palate.loop.train_config import check_train_config, overrides, trains_on_thumbs
from palate.loop.work import CONFIG, GATE, TRAIN, Work
from palate.registry.versions import Version, find
from palate.store import Store
from palate.store.loop_tables import Cycle


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop's config and its database. The current folder is that of the config.

    Attributes:
        file: the config, absolute.
        config: as it is now; a cycle keeps what it began with.
        store: the open database.
    """

    file: Path
    config: LoopFields
    store: Store

    @property
    def folder(self) -> Path:
        """The folder of the cycles, absolute."""
        return Path(self.config.folder).absolute()


def check_loop(loop: Loop) -> Version:
    """Check everything that a cycle needs, before it begins; returns the incumbent.

    Raises:
        ConfigError: a line for each thing that is wrong or missing.
    """
    config, problems = loop.config, []
    try:
        gate = load_gate_config(config.gate)
        problems += _problems(loop, gate)
    except ConfigError as error:
        problems += error.lines
    else:
        problems += _prompt_problems(loop, gate)
    try:
        incumbent = find(loop.store, config.alias)
    except UsageError:
        raise ConfigError(
            *problems,
            f"{loop.file.name}: {config.alias} names no version yet; add the model that serves now: palate model add "
            f"FOLDER --name v1.0, then palate model promote v1.0 --alias {config.alias} --reason first",
        ) from None
    try:
        check_train_config(Path(config.train), overrides(incumbent, [Path("pairs.jsonl")], Path("train")))
        if "thumbs" in config.sources and not trains_on_thumbs(Path(config.train)):
            problems.append(
                f"{loop.file.name}: sources: thumbs label single answers, which only `stage: kto` trains on"
            )
    except ConfigError as error:
        problems += error.lines
    if problems:
        raise ConfigError(*problems)
    return incumbent


def _problems(loop: Loop, gate: GateFields) -> list[str]:
    """What does not fit together, apart from the training config."""
    config, name = loop.config, loop.file.name
    asked = config.evaluate
    files = {
        f"{name}: collect: prompts": config.collect.prompts,
        f"{name}: evaluate: card": asked.card,
        f"{name}: evaluate: must_pass": asked.must_pass,
        f"{config.gate}: prompts": gate.prompts,
        **{f"{name}: sources: {source}": source for source in config.imported},
    }
    found = [
        f"{key}: there is no file {path}"
        for key, path in files.items()
        if path is not None and not Path(path).is_file()
    ]
    in_the_way = next((path for path in (loop.folder, *loop.folder.parents) if path.exists()), loop.folder)
    if not in_the_way.is_dir():
        found.append(f"{name}: folder: {in_the_way} is a file; name a folder")
    measured = {re.sub(r"[-_]", "", one.lower()) for one in asked.benchmarks}  # as `palate eval bench` reads them
    found += [
        f"{name}: evaluate: benchmarks has no {guard.metric.partition('/')[0]}, which {config.gate} guards"
        for guard in gate.guards
        if guard.metric.partition("/")[0] not in measured
    ]
    if gate.must_pass and asked.must_pass is None:
        found.append(f"{name}: evaluate: must_pass is missing, {config.gate} has must_pass: {gate.must_pass}")
    if gate.latency_p95 is not None:
        found.append(f"{config.gate}: latency_p95 is not measured by a cycle; leave it out")
    if gate.judge_card and gate.judge != PEOPLE and asked.card is None:
        found.append(
            f"{name}: evaluate: card is missing; palate judge calibrate makes it, or set judge_card: false in "
            f"{config.gate}"
        )
    asks = config.judge_of(gate.judge)
    same = gate.judge.startswith(f"{asks.partition('@http')[0]}/") if asks.startswith(API) else asks == gate.judge
    if not same and not asks.startswith(JURY):
        found.append(f"{name}: evaluate: judge is {asks}, and that of {config.gate} is {gate.judge}; name the same one")
    for key, judge in (("annotate", config.annotate.judge), ("evaluate", asked.judge)):
        for member in members_of(judge or ""):
            rule = ":" in member or is_api_judge(member) or member in ("", PEOPLE)
            code = member.partition(":")[0]
            if code.endswith(".py") and not Path(code).is_file():
                found.append(f"{name}: {key}: judge is {member}, and there is no file {code}")
            if not rule and not Path(member).is_dir():
                found.append(
                    f"{name}: {key}: judge is {member}, which is no rule and no folder of a reward model; write "
                    "length:shorter, openai:MODEL or a reward model's folder"
                )
    return found


def _prompt_problems(loop: Loop, gate: GateFields) -> list[str]:
    """Files of prompts that cannot be read or have another number: found here, not after the training."""
    found, collected = [], loop.config.collect.prompts
    try:
        if Path(gate.prompts).is_file():
            gate_prompts(gate)
    except DataError as error:
        found.append(f"{loop.config.gate}: {error}")
    try:
        if collected is not None and Path(collected).is_file():
            load_prompts(collected)
    except DataError as error:
        found.append(f"{loop.file.name}: collect: {error}")
    return found


def newest_cycle(loop: Loop) -> tuple[Cycle | None, dict[str, str]]:
    """The newest cycle, and step → state of it; finished or not."""

    def read(session: Session) -> tuple[Cycle | None, dict[str, str]]:
        cycle = last_cycle(session, loop.config.name)
        rows = {} if cycle is None else steps_of(session, cycle.id)
        return cycle, {name: row.state for name, row in rows.items()}

    return loop.store.read(read)


def begin(loop: Loop, now: datetime) -> Cycle:
    """The cycle that goes on, or a new one. Until its collecting is done, it follows every edit of the configs.

    Raises:
        ConfigError: something that a cycle needs is wrong or missing.
    """
    cycle, states = newest_cycle(loop)
    if cycle is not None and cycle.outcome is None and states.get("collect") == "done":
        return cycle
    number = 1 if cycle is None else cycle.number + (cycle.outcome is not None)
    values = cycle_values(loop, number, now if cycle is None or cycle.outcome is not None else cycle.started)
    for copy, given in ((CONFIG, loop.file), (GATE, loop.config.gate), (TRAIN, loop.config.train)):
        write_bytes(Path(values["folder"]) / copy, read_bytes(given))

    def write(session: Session) -> Cycle:
        row = session.scalars(select(Cycle).where(Cycle.loop == loop.config.name, Cycle.number == number)).one_or_none()
        if row is None:
            row = Cycle(loop=loop.config.name, number=number, **values)
            session.add(row)
        for key, value in values.items():
            setattr(row, key, value)
        session.flush()
        return row

    return loop.store.write(write)


def cycle_values(loop: Loop, number: int, started: datetime) -> dict[str, Any]:
    """The columns of a cycle that begins with the configs as they are now.

    Raises:
        ConfigError: something that a cycle needs is wrong or missing.
    """
    incumbent, schedule = check_loop(loop), loop.config.schedule
    before = loop.store.read(lambda session: last_day(session, loop.config.name, number))
    config = {
        "file": str(loop.file),
        "loop": {**loop.config.resolved(), "store": None},  # a URL may have a password
        "gate": load_gate_config(loop.config.gate).resolved(),
        "day": schedule and schedule.first_day(started, before).isoformat(),
    }
    return {
        "folder": str(Path(loop.config.folder).absolute() / f"{number:04d}"),
        "config_hash": config_hash(loop),
        "config": config,
        "incumbent": incumbent.name,
        "incumbent_hash": incumbent.content_hash,
        "started": started,
    }


def config_hash(loop: Loop) -> str:
    """SHA-256 over the loop's config and the two that it names, as they are now."""
    return json_hash([file_hash(path) for path in (loop.file, loop.config.gate, loop.config.train)])


def work_of(loop: Loop, cycle: Cycle, now: datetime) -> Work:
    """A cycle as its steps see it."""
    rows = loop.store.read(lambda session: steps_of(session, cycle.id))
    current = loop.store.read(lambda session: session.get_one(Cycle, cycle.id)) if cycle.id else cycle
    return Work(
        loop.store,
        stored_config(cycle.config["loop"]),
        GateFields.model_validate(cycle.config["gate"]),
        cycle.id,
        cycle.number,
        Path(cycle.folder),
        cycle.incumbent,
        cycle.incumbent_hash,
        current.candidate,
        {name: row.output.get("figures") or {} for name, row in rows.items()},
        now,
        now,
    )
