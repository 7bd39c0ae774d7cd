"""A mixture of several sources as one dataset on disk, in two passes: files larger than memory are no hindrance."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.artifacts.folders import atomic_folder
from palate.data.contract import write_contract
from palate.data.formats.kinds import record_kind
from palate.data.formats.rows import Reading
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.load import SourceReader, SourceReport
from palate.data.mix import NOT_DRAWN, counts, drawn_key
from palate.data.outputs import check_output_folder
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources, for_sources
from palate.errors import DataError
from palate.records import Dropped, Record

FORMATS = ("jsonl", "parquet", "arrow")
LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a mixture holds.

    Attributes:
        output: the folder with mixed.*, left_out.jsonl and data.json.
        taken: rows taken of each source.
        not_drawn: usable rows of each source that the proportions left out.
        unusable: rows of each source that could not be read, each listed in left_out.jsonl.
        sources: what was read.
    """

    output: Path
    taken: Mapping[str, int]
    not_drawn: Mapping[str, int]
    unusable: Mapping[str, int]
    sources: tuple[SourceReport, ...]


def mix_files(
    datasets: Sequence[str],
    output: str | Path,
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    caps: Mapping[str, int] | None = None,
    rows: int | None = None,
    kind: str = "pairs",
    form: str = "jsonl",
    seed: int = 0,
    dataset_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    subset: str | None = None,
    max_samples: int | None = None,
    reading: Reading | None = None,
) -> Mixture:
    """Writes one dataset of several, no row twice, evenly interleaved, so that every part of it is the same mixture.

    Which rows are drawn depends on the seed and each row's id alone: more rows in one source change nothing in another.

    Args:
        datasets: as in `load_records`.
        output: folder to write; one that palate wrote is replaced, any other is refused.
        weights: proportions by source name; all sources or none.
        temperature: instead of weights, proportions size^(1/temperature).
        caps: most rows of a source, by name.
        rows: most rows in all.
        kind: what the rows become (`pairs`, `demonstrations` …), as for `palate data convert`.
        form: `jsonl`, `parquet` or `arrow`.
        seed: of the draw.
        dataset_dir, columns, split, subset, max_samples, reading: as in `load_records`.
    """
    output = Path(output)
    if form not in FORMATS:
        raise DataError(f"cannot write a mixture as {form!r}; known are {', '.join(FORMATS)}")
    sources = find_sources(list(datasets), dataset_dir=dataset_dir, split=split, subset=subset)
    check_output_folder(output, sources)
    shares = _weights(weights, sources)
    limits = for_sources(caps, sources, "caps")
    read = _Sources(sources, record_kind(kind), columns, max_samples, reading, seed)
    keys = [read.keys(place) for place in range(len(sources))]
    check_labels_used(read.reports, reading)
    taken = counts(
        [len(found) for found in keys],
        shares,
        temperature=temperature,
        caps=None if limits is None else [None if limit is None else int(limit) for limit in limits],
        total=rows,
    )
    done = _mixture(output, sources, keys, taken, read)
    highest = [_highest(found, count) for found, count in zip(keys, taken, strict=True)]
    with atomic_folder(output) as folder:
        files = {"rows": folder / f"mixed.{form}", "left_out": folder / LEFT_OUT}
        write_rows(files["left_out"], (row for lost in read.lost for row in lost))
        written = write_rows(files["rows"], _interleaved(read, taken, highest))
        if written != sum(taken):
            raise DataError(f"a source changed while it was read: {written:,} rows where {sum(taken):,} were drawn")
        write_contract(
            folder / "data.json",
            how="mix",
            files=files,
            counts={"taken": done.taken, NOT_DRAWN: done.not_drawn, "unusable": done.unusable},
            sources=sources,
            options={
                "weights": weights, "temperature": temperature, "caps": caps, "rows": rows, "kind": kind, "seed": seed
            },
            reports=read.reports,
        )  # fmt: skip
    return done


def _mixture(
    output: Path, sources: Sequence[Source], keys: Sequence[array[int]], taken: Sequence[int], read: _Sources
) -> Mixture:
    """What the mixture will hold; refuses one without a row."""
    if not sum(taken):
        reasons = Counter(row["reason"] for lost in read.lost for row in lost)
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3)) or "the caps leave no row"
        raise DataError(f"{sources[0].path}: the mixture would be empty: {why}")
    names = [source.name for source in sources]
    left = {name: len(found) - count for name, found, count in zip(names, keys, taken, strict=True)}
    unusable = {name: len(lost) for name, lost in zip(names, read.lost, strict=True)}
    return Mixture(output, dict(zip(names, taken, strict=True)), left, unusable, tuple(read.reports))


def _weights(given: Mapping[str, float] | None, sources: Sequence[Source]) -> list[float] | None:
    """The weight of each source, in order; None where none is given."""
    shares = for_sources(given, sources, "weights")
    if shares is None:
        return None
    missing = next((source.name for source, share in zip(sources, shares, strict=True) if share is None), None)
    if missing is not None:
        raise DataError(f"weights names no weight for {missing}; give every source one, or none")
    return [float(share) for share in shares if share is not None]


class _Sources:
    """The sources, each read as often as is asked, never held."""

    def __init__(
        self,
        sources: Sequence[Source],
        kind: type[Record],
        columns: Mapping[str, str] | None,
        max_samples: int | None,
        reading: Reading | None,
        seed: int,
    ) -> None:
        self._sources = sources
        self._options: dict[str, Any] = {"columns": columns, "max_samples": max_samples, "reading": reading}
        self._kind = kind
        self._seed = seed
        self.reports: list[SourceReport] = []
        self.lost: list[list[dict[str, str]]] = []

    def keys(self, place: int) -> array[int]:
        """The drawing key of every usable row, 8 bytes each; takes note of the rows that cannot be used."""
        reader = self._reader(place)
        found = array("Q")
        lost = []
        for item in reader:
            if isinstance(item, Dropped):
                lost.append({"origin": item.id, "reason": item.reason, "detail": item.detail})
            else:
                found.append(self._key(item.id))
        self.reports.append(reader.report())
        self.lost.append(lost)
        return found

    def drawn(self, place: int, count: int, highest: int) -> Iterator[dict[str, Any]]:
        """`count` rows of a source: those whose key is not above the highest that is drawn, in the file's order."""
        given: Counter[str] = Counter()
        for item in self._reader(place):
            if not isinstance(item, Dropped) and self._key(item.id) <= highest and given["rows"] < count:
                given["rows"] += 1
                # A column of that name is the rows' own and stays.
                yield {"source": item.source} | palate_row(item) | {"origin": item.id}

    def _reader(self, place: int) -> SourceReader[Record]:
        return SourceReader(self._sources[place], self._kind, **self._options)

    def _key(self, row_id: str) -> int:
        return int.from_bytes(drawn_key(self._seed, row_id))


def _highest(keys: array[int], count: int) -> int:
    """The count-th lowest key; all are drawn up to it."""
    if count == 0:
        return -1
    return int(np.partition(np.frombuffer(keys, dtype=np.uint64), count - 1)[count - 1])


def _interleaved(read: _Sources, taken: Sequence[int], highest: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of all sources, of each in its own order, always from the one that is furthest behind its share."""
    rows = [read.drawn(place, count, high) for place, (count, high) in enumerate(zip(taken, highest, strict=True))]
    given = [0] * len(rows)
    open_ = [place for place, count in enumerate(taken) if count]
    while open_:
        place = min(open_, key=lambda place: ((given[place] + 0.5) / taken[place], place))
        row = next(rows[place], None)
        if row is not None:
            yield row
        given[place] += 1
        if given[place] == taken[place] or row is None:
            open_.remove(place)
