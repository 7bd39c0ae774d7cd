"""Optimiser steps of the runs that `palate plan` shows, from the rows of their data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from palate.charts.text import amount
from palate.errors import DataError, ModelError
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
    from palate.config.run import RunConfig

Counts: TypeAlias = dict[str, tuple[int, int] | str]
"""Dataset with its options → its rows to train on and those held out, or why they are not counted."""
_KINDS: Mapping[str, type[Record]] = {"ranked": Ranking, "unpaired": LabelledCompletion}
"""Records of other families than pairs."""
_COUNTED = 100_000_000
"""Bytes of data up to which the rows are counted."""


def planned_steps(config: RunConfig, devices: int = 1, counted: Counts | None = None) -> tuple[str, list[str]]:
    """The number of optimiser steps of a run, and settings that do not fit it.

    Args:
        counted: rows of datasets that are counted already; gets those of this run.
    """
    from palate.config.steps import doubtful_settings, step_count

    found = _rows(config, {} if counted is None else counted)
    if isinstance(found, str):
        return f"not counted: {found}", []
    rows, held_out = found
    doubts = doubtful_settings(
        config,
        rows,
        held_out if config.eval_dataset is None else None,
        devices=devices,
        parameters=_parameters(config.model_name_or_path),
    )
    more = f" on {amount(devices, 'device')}" if devices > 1 else ""
    read = f"{rows:,} training rows" + (f" ({held_out:,} held out)" if held_out else "")
    return f"{step_count(config, rows, devices):,} from {read}{more}", list(doubts)


def steps_of_each(runs: Mapping[str, RunConfig], sampled: Collection[str] = ()) -> tuple[dict[str, str], list[str]]:
    """The same for several runs by name; a dataset that several train on is read once.

    Args:
        sampled: names of runs that make their own rows.
    """
    counted: Counts = {}
    steps: dict[str, str] = {}
    doubted: dict[str, list[str]] = {}
    for name, config in runs.items():
        if name in sampled:
            steps[name] = "not counted: the run samples its rows"
            continue
        steps[name], doubts = planned_steps(config, counted=counted)
        for line in doubts:
            doubted.setdefault(line, []).append(name)
    return steps, [f"{', '.join(names)}: {line}" for line, names in doubted.items()]


def _rows(config: RunConfig, counted: Counts) -> tuple[int, int] | str:
    """The rows to train on and those held out, of data that are small files on this machine; else why not."""
    from palate.data.sources.spec import find_sources
    from palate.data.stream import RecordStream

    request = DatasetRequest.of_run(config.resolved(), config.dataset)
    held = 0.0 if config.eval_dataset is not None else config.val_size
    kind, temperature, caps = _kind(config), config.mix_temperature, config.mix_caps
    key = repr((request, kind, temperature, caps, held))
    if key not in counted:
        try:
            files = [source.files for source in find_sources(request)]
            if not all(files) or sum(path.stat().st_size for each in files for path in each) > _COUNTED:
                counted[key] = "the data is large, or not on this machine"
            else:
                stream = RecordStream(request, kind, temperature=temperature, caps=caps, val_size=held)
                counted[key] = stream.count(held_out=False), stream.count(held_out=True)
        except DataError as error:
            counted[key] = str(error)
    return counted[key]


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
