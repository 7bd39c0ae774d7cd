"""Sweeps: `sweep:` in a config names keys with several values each, and every combination is a run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.config.load import (
    PIPELINE_KEYS,
    SWEEP_KEY,
    config_from_entries,
    output_folder,
    overridden,
    wants_overwriting,
)
from palate.config.mapping.translate import translate
from palate.config.pipeline import PlannedRun
from palate.config.reader import ConfigEntry, as_yaml, read_config_file, read_override
from palate.errors import ConfigError

_NOT_SWEPT = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "stage")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(PlannedRun):
    """One run of a sweep. Its name has its values only: adding a value to the sweep renames no other point.

    Attributes:
        values: the swept keys, as written.
    """

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs that differ in a few keys.

    Attributes:
        output_dir: folder of the sweep, with a folder for each run.
        keys: the swept keys, in the order in which they were written.
        points: the runs, in order.
        overwrite: whether to start again and delete existing runs.
        notices: lines about the config for the user.
    """

    output_dir: Path
    keys: tuple[str, ...]
    points: tuple[Point, ...]
    overwrite: bool
    notices: tuple[str, ...]


def is_sweep(path: str | Path, overrides: Sequence[str] = ()) -> bool:
    """Whether a config file, or an override, has `sweep`."""
    return SWEEP_KEY in read_config_file(path) or any(read_override(text)[0] == SWEEP_KEY for text in overrides)


def load_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep and check the config of every run.

    Raises:
        ConfigError: a line with file and line, point, key and remedy.
    """
    given = overridden(read_config_file(path), overrides)
    if given.refused:
        raise ConfigError(*given.refused.values())
    entries, notices = given.entries, given.lines()
    sweep = entries.pop(SWEEP_KEY)
    for key in PIPELINE_KEYS:
        if key in entries:
            raise ConfigError(f"{sweep.where}: sweep and {key} cannot both be given; sweep one stage at a time")
    folder = output_folder(entries, str(path))
    overwrite = wants_overwriting(entries)
    base = {key: entry for key, entry in entries.items() if key not in _NOT_SWEPT or key == "stage"}
    points: list[Point] = []
    for number, values in enumerate(_combinations(sweep), 1):
        origin = f"{sweep.where}, point {number}"
        stage = entries["stage"].value if "stage" in entries else None
        own = translate({key: ConfigEntry(value, origin) for key, value in values.items()}, stage=stage)
        if own.refused:
            raise ConfigError(*own.refused.values())
        name = point_name(values)
        if any(point.name == name for point in points):
            raise ConfigError(f"{sweep.where}: point {number} ({_values_text(values)}) occurs twice; remove one")
        output = {"output_dir": ConfigEntry(str(folder / name), "output_dir")}
        loaded = config_from_entries({**base, **own.entries, **output}, origin=origin)
        notices += [*own.lines(), *loaded.notices]
        points.append(Point(name, loaded.config, values=values))
    keys = tuple(dict.fromkeys(key for point in points for key in point.values))
    return Sweep(folder, keys, tuple(points), overwrite, tuple(dict.fromkeys(notices)))


def point_name(values: Mapping[str, Any]) -> str:
    """`pref_beta-0.1_seed-2`: readable, valid as a folder name, and made of the values only."""
    text = "_".join(f"{key}-{_flat(value)}" for key, value in values.items())
    safe = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-.")
    if safe == text and len(safe) <= _LONGEST_NAME:
        return safe
    # Two points could have the same name after characters were replaced.
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{safe[:_LONGEST_NAME]}-{digest}"


def _flat(value: Any) -> str:
    """A value without brackets: `helpful-0.5-safe-0.5` for a mapping."""
    if isinstance(value, Mapping):
        return "-".join(f"{key}-{_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "-".join(map(_flat, value))
    return as_yaml(value) if value is None or isinstance(value, bool) else str(value)


def _combinations(entry: ConfigEntry) -> list[dict[str, Any]]:
    """Every combination of a mapping of lists, the last key varying fastest; a list of mappings lists the points."""
    given = entry.value
    if isinstance(given, list) and given and all(isinstance(point, Mapping) and point for point in given):
        points = [{str(key): value for key, value in point.items()} for point in given]
    elif isinstance(given, Mapping) and given:
        for key, values in given.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(
                    f"{entry.where}: sweep: {key} needs a list of values, e.g. {key}: [{as_yaml(values)}, …]"
                )
        points = [dict(zip(map(str, given), values)) for values in itertools.product(*given.values())]
    else:
        raise ConfigError(
            f"{entry.where}: sweep takes keys with lists of values (`pref_beta: [0.05, 0.1]`) or a list of points "
            f"(`- pref_beta: 0.1`), not {as_yaml(given)}"
        )
    for key in dict.fromkeys(key for point in points for key in point):
        if key in (*_NOT_SWEPT, *PIPELINE_KEYS, SWEEP_KEY):
            raise ConfigError(f"{entry.where}: sweep: {key} cannot be swept; every point is a run of one stage")
    return points


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {as_yaml(value)}" for key, value in values.items())
