"""The config of an experiment: its own few keys, read from a YAML file, unknown ones refused."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from palate.config.base import Fields
from palate.config.reader import ConfigEntry, read_config_file, read_override
from palate.errors import ConfigError

Config = TypeVar("Config", bound="ExperimentConfig")


class ExperimentConfig(Fields):
    """What every experiment has.

    Attributes:
        workers: cells made at a time.
        threads: of each cell.
        seed: of what is drawn once for the whole experiment: data, prompts, starting weights.
        max_steps: optimiser steps after which every run ends; 0 lets them run. For trying a config out.
    """

    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    max_steps: int = Field(0, ge=0)

    @property
    def cut(self) -> dict[str, int]:
        """What every run's config gets."""
        return {"max_steps": self.max_steps} if self.max_steps else {}


def read_experiment_config(kind: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """The values of a file, `key=value` overrides applied.

    Raises:
        ConfigError: one line that names file and line (or `--set`), key and remedy.
    """
    entries: dict[str, ConfigEntry] = dict(read_config_file(path))
    for text in overrides:
        key, entry = read_override(text)
        entries[key] = entry
    for key, entry in entries.items():
        if key not in kind.model_fields:
            close = get_close_matches(key, sorted(kind.model_fields), n=1, cutoff=0.6)
            hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(sorted(kind.model_fields))}"
            raise ConfigError(f"{entry.where}: unknown key {key}; {hint}")
    try:
        return kind(**{key: entry.value for key, entry in entries.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        where = entries[key].where if key in entries else str(path)
        what = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise ConfigError(f"{where}: {what}{first['msg'].removeprefix('Value error, ')}") from error
