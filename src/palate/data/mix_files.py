"""A mixture of several sources as one dataset on disk, in two passes, so that files may be larger than memory."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.artifacts.folders import atomic_folder
from palate.data.contract import check_output_folder, write_contract
from palate.data.formats.kinds import record_kind
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.load import SourceReader, SourceReport, top_reasons
from palate.data.mix import NOT_DRAWN, counts, drawn_key
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources, for_sources
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record

FORMATS = ("jsonl", "parquet", "arrow")
LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture that was written.

    Attributes:
        output: the folder with mixed.*, left_out.jsonl and data.json.
        taken: rows taken of each source.
        not_drawn: usable rows of each source that the proportions left out.
        unusable: rows of each source that could not be read, each listed in left_out.jsonl.
        sources: how each source was read.
    """

    output: Path
    taken: Mapping[str, int]
    not_drawn: Mapping[str, int]
    unusable: Mapping[str, int]
    sources: tuple[SourceReport, ...]


def mix_files(
    dataset: DatasetSpec | DatasetRequest,
    output: str | Path,
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    caps: Mapping[str, int] | None = None,
    rows: int | None = None,
    kind: str = "pairs",
    form: str = "jsonl",
) -> Mixture:
    """Writes one dataset of several, no row twice, evenly interleaved, so that every part of it is the same mixture.

    Which rows are drawn depends on the request's seed and each row's id alone: more rows in one source change nothing
    in another.

    Args:
        dataset: several sources, by name or as a request.
        output: folder to write; one that palate wrote is replaced, any other is refused.
        weights: proportions by source name; all sources or none.
        temperature: instead of weights, proportions size^(1/temperature).
        caps: most rows of a source, by name.
        rows: most rows in all.
        kind: what the rows become (`pairs`, `demonstrations` …), as for `palate data convert`.
        form: `jsonl`, `parquet` or `arrow`.
    """
    request, output = DatasetRequest.of(dataset), Path(output)
    if form not in FORMATS:
        raise DataError(f"cannot write a mixture as {form!r}; known are {', '.join(FORMATS)}")
    sources = find_sources(request)
    check_output_folder(output, sources)
    shares = _weights(weights, sources)
    limits = for_sources(caps, sources, "caps")
    record = record_kind(kind)
    read = [_MixedSource(source, record, request) for source in sources]
    reports = tuple(source.report for source in read)
    check_labels_used(reports, request.labels)
    taken = counts([len(source.keys) for source in read], shares, temperature=temperature, caps=limits, total=rows)
    if not sum(taken):
        why = top_reasons(drop for source in read for drop in source.dropped) or "the caps leave no row"
        raise DataError(f"{sources[0].path}: the mixture would be empty: {why}")
    done = Mixture(
        output,
        taken={source.name: count for source, count in zip(read, taken, strict=True)},
        not_drawn={source.name: len(source.keys) - count for source, count in zip(read, taken, strict=True)},
        unusable={source.name: len(source.dropped) for source in read},
        sources=reports,
    )
    options = {"weights": weights, "temperature": temperature, "caps": caps, "rows": rows, "kind": kind}
    _write(done, read, sources, form, {**options, "seed": request.seed})
    return done


def _write(
    done: Mixture, read: Sequence[_MixedSource], sources: Sequence[Source], form: str, options: Mapping[str, Any]
) -> None:
    """The mixture's folder: its rows, the rows that cannot be used, and `data.json`."""
    taken = list(done.taken.values())
    dropped = (drop for source in read for drop in source.dropped)
    left_out = ({"origin": drop.id, "reason": drop.reason, "detail": drop.detail} for drop in dropped)
    with atomic_folder(done.output) as folder:
        files = {"rows": folder / f"mixed.{form}", "left_out": folder / LEFT_OUT}
        write_rows(files["left_out"], left_out)
        written = write_rows(files["rows"], _interleaved(read, taken))
        if written != sum(taken):
            raise DataError(f"a source changed while it was read: {written:,} rows where {sum(taken):,} were drawn")
        write_contract(
            folder / "data.json",
            how="mix",
            files=files,
            counts={"taken": done.taken, NOT_DRAWN: done.not_drawn, "unusable": done.unusable},
            sources=sources,
            options=options,
            reports=done.sources,
        )


def _weights(given: Mapping[str, float] | None, sources: Sequence[Source]) -> list[float] | None:
    """The weight of each source, in order; None if none is given."""
    shares = for_sources(given, sources, "weights")
    if shares is None:
        return None
    missing = next((source.name for source, share in zip(sources, shares, strict=True) if share is None), None)
    if missing is not None:
        raise DataError(f"weights names no weight for {missing}; give every source one, or none")
    return [float(share) for share in shares if share is not None]


class _MixedSource:
    """A source that is read twice: for the keys of its rows when this is made, and for the rows drawn.

    Attributes:
        name: of the source.
        keys: the drawing key of every usable row, 8 bytes each.
        dropped: rows that cannot be used.
        report: what became of its rows.
    """

    def __init__(self, source: Source, kind: type[Record], request: DatasetRequest) -> None:
        self.name = source.name
        self._source, self._kind, self._request = source, kind, request
        self.keys = array("Q")
        self.dropped: list[Dropped] = []
        reader = SourceReader(source, kind, request)
        for item in reader:
            if isinstance(item, Dropped):
                self.dropped.append(item)
            else:
                self.keys.append(self._key(item))
        self.report = reader.report()

    def drawn(self, count: int) -> Iterator[dict[str, Any]]:
        """The `count` rows with the lowest keys, in the file's order."""
        if count == 0:
            return
        highest = np.partition(np.frombuffer(self.keys, dtype=np.uint64), count - 1)[count - 1]
        for item in SourceReader(self._source, self._kind, self._request):
            if count and not isinstance(item, Dropped) and self._key(item) <= highest:
                count -= 1
                # A column of that name is the rows' own and stays.
                yield {"source": item.source} | palate_row(item) | {"origin": item.id}

    def _key(self, record: Record) -> int:
        return int.from_bytes(drawn_key(self._request.seed, record.id))


def _interleaved(read: Sequence[_MixedSource], taken: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of all sources, each in its own order, always from the one that is furthest behind its share."""

    def turns(place: int, count: int) -> Iterator[tuple[float, int]]:
        return (((number + 0.5) / count, place) for number in range(count))

    rows = [source.drawn(count) for source, count in zip(read, taken, strict=True)]
    for _, place in heapq.merge(*(turns(place, count) for place, count in enumerate(taken))):
        row = next(rows[place], None)
        if row is not None:
            yield row
