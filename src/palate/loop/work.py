"""What a step of a cycle is given, and what it yields: commands to run, or what it waits for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from palate.artifacts import file_hash, json_hash
from palate.loop.config import LoopFields
from palate.loop.gate.config import GateFields
from palate.store import Store

CONFIG, GATE, TRAIN = "loop.yaml", "gate.yaml", "train.yaml"
"""Names of the configs in a cycle's folder, as they were when it began."""


@dataclass(frozen=True, slots=True)
class Command:
    """A palate command.

    Attributes:
        words: its arguments, without `palate`.
        codes: exit codes with which it has ended well.
        enough: whether its result is complete enough although it failed.
    """

    words: tuple[str, ...]
    codes: tuple[int, ...] = (0,)
    enough: Callable[[], bool] | None = None

    @property
    def text(self) -> str:
        """The command as it is typed."""
        return shlex.join(["palate", *self.words])


@dataclass(frozen=True, slots=True)
class Waiting:
    """That a step cannot go on.

    Attributes:
        reason: what or whom it waits for.
        on: `time`, `people` or `traffic`.
        until: when it goes on at the latest, or at the earliest (`time`).
        next_act: what to do, with its command.
    """

    reason: str
    on: Literal["time", "people", "traffic"]
    until: datetime | None = None
    next_act: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a step.

    Attributes:
        figures: what it found, by name, as JSON values.
        files: its results; their hashes are kept.
        ends: the outcome of the cycle, if it ends here, and why.
        skipped: whether the step has nothing to do.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()
    ends: tuple[Literal["deployed", "rejected", "abandoned"], str] | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that determines the output of a step: JSON values, and files by their content."""

    facts: Mapping[str, Any]
    files: Iterable[Path] = ()

    def hash(self, folder: Path) -> str:
        """SHA-256 of all of it. A file's name counts relative to the cycle's folder; a missing file counts as such."""
        files = file_hashes((path for path in self.files if path.is_file()), folder)
        return json_hash({"facts": self.facts, "files": files})


def file_hashes(files: Iterable[Path], folder: Path) -> dict[str, str]:
    """Name, relative to the cycle's folder if it lies there → SHA-256."""
    return {str(path.relative_to(folder) if path.is_relative_to(folder) else path): file_hash(path) for path in files}


Run: TypeAlias = Generator[Inputs | Command | Waiting, None, Done]


@dataclass(slots=True)
class Work:
    """A cycle as its steps see it. The current folder is that of the loop's config.

    Attributes:
        store: the database.
        config, gate: as they were when the cycle began.
        id: of the cycle's row; None for a cycle that is only planned.
        number: of the loop's cycles, from 1.
        folder: of the cycle's files, absolute.
        incumbent, incumbent_hash: the version that is to be replaced.
        candidate: the version that the cycle made; None before that.
        figures: finished step → what it found.
        now: the time of this tick.
        began: when the current step was begun first.
        dry: whether the commands are only listed: nothing is read that an earlier step would write.
    """

    store: Store
    config: LoopFields
    gate: GateFields
    id: int | None
    number: int
    folder: Path
    incumbent: str
    incumbent_hash: str
    candidate: str | None
    figures: Mapping[str, Mapping[str, Any]]
    now: datetime
    began: datetime
    dry: bool = False

    @property
    def campaign(self) -> str:
        """Name of the campaign of people who annotate."""
        return f"{self.config.name}-{self.number:04d}"

    @property
    def title(self) -> str:
        """The cycle in reasons and notes."""
        return f"cycle {self.number} of {self.config.name}"

    @property
    def train_config(self) -> Path:
        """The training config: the cycle's own, or in the plan of a cycle that has not begun the user's."""
        return Path(self.config.train) if self.id is None else self.path(TRAIN)

    def path(self, *parts: str) -> Path:
        """A file or folder of the cycle."""
        return self.folder.joinpath(*parts)

    def command(self, *words: object, option: str | None = None, **rest: Any) -> Command:
        """A command with the words that the config has for it; paths are relative to the current folder."""
        more = self.config.more_options(option) if option else ()
        return Command((*map(shown, words), *more), **rest)


def shown(word: object) -> str:
    """A word of a command."""
    here = Path.cwd()
    return str(word.relative_to(here) if isinstance(word, Path) and word.is_relative_to(here) else word)
