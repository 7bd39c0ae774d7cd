"""The sources that a dataset specification names."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from palate.data.sources.open import Source, distinct_labels, open_source
from palate.errors import DataError

DatasetSpec: TypeAlias = str | Sequence[str] | Mapping[str, float]
"""A dataset as a config names it: one name, several (also with commas), or a mixture with weights."""


def find_sources(
    dataset: DatasetSpec,
    *,
    dataset_dir: str | Path | None = None,
    split: str | None = None,
    subset: str | None = None,
) -> list[Source]:
    """The sources that a dataset specification names, in its order, with names and row ids of their own."""
    names = _names(dataset, dataset_dir)
    found = [open_source(name, dataset_dir=dataset_dir, split=split, subset=subset) for name in names]
    return distinct_labels(_distinct_names(found))


def _names(dataset: DatasetSpec, dataset_dir: str | Path | None) -> list[str]:
    if isinstance(dataset, str):
        whole = Path(dataset).exists() or (dataset_dir is not None and (Path(dataset_dir) / dataset).exists())
        names = [dataset] if whole else [part.strip() for part in dataset.split(",")]
    else:
        names = list(dataset)
    names = [name for name in names if name]
    if not names:
        raise DataError("dataset is empty: name a file, a folder, a hub id or a dataset of dataset_info.json")
    return names


def _distinct_names(sources: Sequence[Source]) -> list[Source]:
    """Sources of one name (`a/train.jsonl`, `b/train.jsonl`) are counted under their paths."""
    count = Counter(source.name for source in sources)
    return [source if count[source.name] == 1 else replace(source, name=source.path) for source in sources]


def for_sources(given: Mapping[str, float] | None, sources: Sequence[Source], what: str) -> list[float | None] | None:
    """Numbers by a source's name, path or file name in the order of the sources; None where none is given.

    Raises:
        DataError: a name is no source's; `what` says whose names they are.
    """
    if given is None:
        return None
    names = [(source.name, source.path, Path(source.path).name) for source in sources]
    known = {name for of_source in names for name in of_source}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; sources are {', '.join(of[0] for of in names)}"
            raise DataError(f"{what} names {name!r}, which is not a source{hint}")
    return [next((given[name] for name in of_source if name in given), None) for of_source in names]
