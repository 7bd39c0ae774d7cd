"""Writes a mixture of several sources as one dataset, in two passes, so that files may be larger than memory."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.artifacts.folders import atomic_folder
from palate.data.contract import check_output_folder, named_hashes, write_contract
from palate.data.formats.kinds import record_kind
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.held_out import IN_EVALUATION, HeldOut
from palate.data.load import top_reasons
from palate.data.mix import NOT_DRAWN, counts, drawn_key
from palate.data.source_reader import SourceReader
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources, for_sources
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record, SourceReport, prompt_or_text

FORMATS = ("jsonl", "parquet", "arrow")
LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, slots=True)
class Mixture:
    """The result of `mix_files`.

    Attributes:
        output: the folder with mixed.*, left_out.jsonl and data.json.
        taken: number of rows taken from each source.
        not_drawn: number of usable rows of each source that were not sampled.
        held_out: number of rows of each source whose prompt is in evaluation data; left_out.jsonl lists them.
        unusable: number of rows of each source that could not be used; left_out.jsonl lists them.
        sources: a report on each source.
    """

    output: Path
    taken: Mapping[str, int]
    not_drawn: Mapping[str, int]
    held_out: Mapping[str, int]
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
    exclude: Sequence[Path] = (),
) -> Mixture:
    """Write one dataset from several, without repeated rows and evenly interleaved.

    The sampled rows depend only on the request's seed and each row's id, so new rows in one source do not change the
    sample of another.

    Args:
        output: folder to write; an existing one is replaced if palate wrote it, otherwise refused.
        weights: proportions by source name, for all sources or none.
        temperature: instead of weights, proportions size^(1/temperature).
        caps: maximum number of rows by source name.
        kind: type of the written rows (`pairs`, `demonstrations` …), as for `palate data convert`.
        form: `jsonl`, `parquet` or `arrow`.
        exclude: evaluation data; rows whose prompt (or text, if they are plain text) resembles it are left out.
    """
    request, output = DatasetRequest.of(dataset), Path(output)
    if form not in FORMATS:
        raise DataError(f"cannot write a mixture as {form!r}; known are {', '.join(FORMATS)}")
    sources = find_sources(request)
    check_output_folder(output, sources)
    shares = _weights(weights, sources)
    limits = for_sources(caps, sources, "caps")
    record = record_kind(kind)
    evaluation = HeldOut(exclude)
    read = [_MixedSource(source, record, request, evaluation) for source in sources]
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
        held_out={source.name: len(source.held_out) for source in read},
        unusable={source.name: len(source.dropped) - len(source.held_out) for source in read},
        sources=reports,
    )
    options = {"weights": weights, "temperature": temperature, "caps": caps, "rows": rows, "kind": kind}
    _write(done, read, sources, form, {**options, "seed": request.seed, "exclude": named_hashes(exclude)})
    return done


def _write(
    done: Mixture, read: Sequence[_MixedSource], sources: Sequence[Source], form: str, options: Mapping[str, Any]
) -> None:
    """Write the mixture's folder: its rows, the unusable rows, and `data.json`."""
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
            counts={
                "taken": done.taken,
                NOT_DRAWN: done.not_drawn,
                IN_EVALUATION: done.held_out,
                "unusable": done.unusable,
            },
            sources=sources,
            options=options,
            reports=done.sources,
        )


def _weights(given: Mapping[str, float] | None, sources: Sequence[Source]) -> list[float] | None:
    """The weight of each source, in order; None without weights."""
    shares = for_sources(given, sources, "weights")
    if shares is None:
        return None
    missing = next((source.name for source, share in zip(sources, shares, strict=True) if share is None), None)
    if missing is not None:
        raise DataError(f"weights names no weight for {missing}; give every source one, or none")
    return [float(share) for share in shares if share is not None]


class _MixedSource:
    """A source that is read twice: here for the sort keys of its rows, later (`drawn`) for the sampled rows.

    Attributes:
        name: name of the source.
        keys: the sort key of every usable row, 8 bytes each.
        dropped: rows that cannot be used, and those in evaluation data, whose ids are in `held_out`.
        report: the report on the source.
    """

    def __init__(self, source: Source, kind: type[Record], request: DatasetRequest, evaluation: HeldOut) -> None:
        self.name = source.name
        self._source, self._kind, self._request = source, kind, request
        self.keys = array("Q")
        self.dropped: list[Dropped] = []
        self.held_out: set[str] = set()
        reader = SourceReader(source, kind, request)
        for record in reader.records(self.dropped.append):
            if evaluation.has(prompt_or_text(record)):
                self.dropped.append(Dropped(record.id, IN_EVALUATION, "its prompt or text is held out"))
                self.held_out.add(record.id)
            else:
                self.keys.append(self._key(record))
        self.report = reader.report()

    def drawn(self, count: int) -> Iterator[dict[str, Any]]:
        """The `count` rows with the lowest sort keys, in the file's order."""
        if count == 0:
            return
        highest = np.partition(np.frombuffer(self.keys, dtype=np.uint64), count - 1)[count - 1]
        for record in SourceReader(self._source, self._kind, self._request).records(lambda _: None):
            if count and record.id not in self.held_out and self._key(record) <= highest:
                count -= 1
                # If the rows have a `source` column of their own, it is kept.
                yield {"source": record.source} | palate_row(record) | {"origin": record.id}

    def _key(self, record: Record) -> int:
        return int.from_bytes(drawn_key(self._request.seed, record.id))


def _interleaved(read: Sequence[_MixedSource], taken: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows of all sources, evenly interleaved; each source keeps its order."""

    def positions(source: int, count: int) -> Iterator[tuple[float, int]]:
        """Evenly spaced positions in (0, 1) for the rows of a source."""
        return (((number + 0.5) / count, source) for number in range(count))

    rows = [source.drawn(count) for source, count in zip(read, taken, strict=True)]
    for _, source in heapq.merge(*(positions(index, count) for index, count in enumerate(taken))):
        row = next(rows[source], None)
        if row is not None:
            yield row
