"""The sources that a dataset specification names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from palate.data.sources.open import Source, distinct_labels, open_source
from palate.errors import DataError, did_you_mean
from palate.records import DatasetRequest, DatasetSpec

N = TypeVar("N", int, float)


def find_sources(dataset: DatasetSpec | DatasetRequest) -> list[Source]:
    """The sources of a dataset in its order, each with its own name and row ids."""
    request = DatasetRequest.of(dataset)
    found = [
        open_source(name, dataset_dir=request.dataset_dir, split=request.split, subset=request.subset)
        for name in _names(request)
    ]
    # Sources of one name (`a/train.jsonl`, `b/train.jsonl`) are counted under their paths.
    count = Counter(source.name for source in found)
    return distinct_labels(
        [source if count[source.name] == 1 else replace(source, name=source.path) for source in found]
    )


def _names(request: DatasetRequest) -> list[str]:
    dataset, folder = request.dataset, request.dataset_dir
    if isinstance(dataset, str):
        whole = Path(dataset).exists() or (folder is not None and (Path(folder) / dataset).exists())
        names = [dataset] if whole else [part.strip() for part in dataset.split(",")]
    else:
        names = list(dataset)
    names = [name for name in names if name]
    if not names:
        raise DataError("dataset is empty: name a file, a folder, a hub id or a dataset of dataset_info.json")
    return names


def for_sources(given: Mapping[str, N] | None, sources: Sequence[Source], what: str) -> list[N | None] | None:
    """Numbers by a source's name, path or file name in the order of the sources; None if none is given.

    Raises:
        DataError: a name is not the name of a source; `what` names the option in the message.
    """
    if given is None:
        return None
    names = [(source.name, source.path, Path(source.path).name) for source in sources]
    known = {name for of_source in names for name in of_source}
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, f"sources are {', '.join(of[0] for of in names)}")
            raise DataError(f"{what} names {name!r}, which is not a source; {hint}")
    return [next((given[name] for name in of_source if name in given), None) for of_source in names]
