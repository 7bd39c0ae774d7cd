"""A stream of records is what loading, mixing and splitting give, without keeping the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.data import load_records, split_records
from palate.data.stream import RecordStream
from palate.errors import DataError
from palate.records import DatasetRequest, PreferencePair
from runs import pairs, write_rows


def dataset(folder: Path) -> list[str]:
    rows = pairs(30, seed=1) + [{**row, "prompt": f"shared {n % 3}"} for n, row in enumerate(pairs(12, seed=2))]
    rows += [{"prompt": "q", "chosen": "same", "rejected": "same"}]
    return [str(write_rows(folder / name, part)) for name, part in (("a.jsonl", rows), ("b.jsonl", pairs(25, seed=3)))]


@pytest.mark.parametrize("val_size", [0, 0.2, 9])
@pytest.mark.parametrize(
    ("weights", "mixture"),
    [(None, {}), ((1, 2), {}), (None, {"temperature": 3.0}), (None, {"caps": {"b.jsonl": 5}})],
)
def test_it_is_what_load_and_split_give(tmp_path: Path, weights: Any, mixture: dict[str, Any], val_size: float) -> None:
    names = dataset(tmp_path)
    request = DatasetRequest(names if weights is None else dict(zip(names, weights, strict=True)), seed=5)
    loaded = load_records(request, kind=PreferencePair, **mixture)
    train, held_out = split_records(loaded.records, val_size, seed=5)
    stream = RecordStream(request, PreferencePair, val_size=val_size, **mixture)
    assert list(stream.read(held_out=False)) == train
    assert list(stream.read(held_out=True)) == held_out
    assert list(stream.read(held_out=False)) == train  # again
    assert (len(stream), stream.count(held_out=True)) == (len(loaded.records), len(held_out))
    assert (stream.sources, stream.dropped) == (loaded.sources, loaded.dropped)


@pytest.mark.parametrize("rows", [9, 11])
def test_a_file_that_became_shorter_or_longer_is_an_error(tmp_path: Path, rows: int) -> None:
    path = write_rows(tmp_path / "a.jsonl", pairs(10))
    stream = RecordStream(DatasetRequest(str(path)), PreferencePair)
    write_rows(path, pairs(rows))
    with pytest.raises(DataError, match="changed while it was read"):
        list(stream.read(held_out=False))
