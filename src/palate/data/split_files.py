"""Training and held-out files: whole clusters of similar prompts, the same share of every source."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from palate.artifacts.folders import atomic_folder
from palate.charts.text import amount
from palate.data.contract import check_output_folder, write_contract
from palate.data.formats.kinds import check_one_kind
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_parts
from palate.data.load import top_reasons
from palate.data.measures.similarity import PLACES, near_duplicates, signature
from palate.data.source_reader import SourceReader
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources
from palate.data.split import split_key
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record, SourceReport, prompt_or_text


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """What a split did.

    Attributes:
        output: the folder.
        counts: rows of every part by source.
        clusters: number of groups of similar prompts.
        left_out: rows that could not be read; they are in none of the parts.
        sources: how each source was read.
    """

    output: Path
    counts: Mapping[str, Mapping[str, int]]
    clusters: int
    left_out: tuple[Dropped, ...]
    sources: tuple[SourceReport, ...]


def split_files(
    dataset: DatasetSpec | DatasetRequest, output: str | Path, sizes: Mapping[str, float], *, threshold: float = 0.8
) -> SplitFiles:
    """Writes `train.jsonl` and one file for each held-out part.

    Args:
        dataset: by name or as a request; another seed, another split.
        output: folder to write; one that palate wrote is replaced, any other is refused.
        sizes: share (below 1) or number of rows of each held-out part, as `{"validation": 0.05, "test": 500}`.
        threshold: estimated Jaccard similarity from which two prompts are similar and stay together.
    """
    request, output = DatasetRequest.of(dataset), Path(output)
    bad = next((name for name in sizes if name == "train" or not name.isidentifier()), None)
    if bad is not None or not sizes:
        raise DataError(f"the held-out parts need names of their own, not {bad!r}" if sizes else "no part is held out")
    sources = find_sources(request)
    check_output_folder(output, sources)
    read = _Rows(sources, request)
    check_one_kind(read.kinds)
    ranks, names, signatures = read.prompts(request.seed)
    if not ranks:
        raise DataError(f"{sources[0].path}: no row can be used: {top_reasons(read.dropped)}")
    check_labels_used(read.reports, request.labels)
    clusters = prompt_clusters(ranks, signatures, threshold)
    try:
        part_of = assign(clusters, ranks, names, sizes)
    except DataError as error:
        raise DataError(f"{', '.join(source.path for source in sources)}: {error}") from None
    again = _Rows(sources, request)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    rows = again.parts(part_of, counts)
    with atomic_folder(output) as folder:
        files = {part: folder / f"{part}.jsonl" for part in ("train", *sizes)}
        write_parts(files, rows)
        write_contract(
            folder / "data.json",
            how="split",
            files={"rows": files["train"], **{name: files[name] for name in sizes}},
            counts=counts,
            sources=sources,
            options={"sizes": dict(sizes), "threshold": threshold, "seed": request.seed},
            reports=again.reports,
            left_out=read.dropped,
        )
    by_part = {part: dict(by_source) for part, by_source in counts.items()}
    return SplitFiles(output, by_part, len(set(clusters)), tuple(read.dropped), tuple(again.reports))


def prompt_clusters(keys: Sequence[Hashable], signatures: npt.NDArray[np.uint8], threshold: float) -> list[int]:
    """Per row the index of the first row whose prompt is the same or similar.

    Args:
        signatures: uint8 [rows, 128], MinHash of each prompt.
        threshold: estimated Jaccard similarity from which two prompts are similar.
    """
    rows = np.arange(len(keys))
    # Equal prompts have equal signatures, but short ones may collide with others; so join by key as well.
    first: dict[Hashable, int] = {}
    same = [first.setdefault(key, row) for row, key in enumerate(keys)]
    edges = np.concatenate([rows, rows]), np.concatenate([same, near_duplicates(signatures, threshold)])
    graph = coo_array((np.ones(2 * len(rows)), edges), shape=(len(rows), len(rows)))
    cluster = connected_components(graph, directed=False)[1]
    first_row = np.unique(cluster, return_index=True)[1]
    return [int(row) for row in first_row[cluster]]


def assign(
    clusters: Sequence[int], ranks: Sequence[int], sources: Sequence[str], sizes: Mapping[str, float]
) -> list[str]:
    """The part of every row: whole clusters, about the wanted share of every source, drawn by seed and prompt alone.

    Args:
        ranks: per row the hash of seed and prompt.
        sizes: share (below 1) or number of rows of each held-out part.

    Raises:
        DataError: nothing would be left to train on.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, cluster in enumerate(clusters):
        members[cluster].append(index)
    total = len(clusters)
    shares = {part: size if size < 1 else size / max(1, total) for part, size in sizes.items()}
    if min(shares.values()) <= 0 or sum(shares.values()) >= 1 or len(members) <= len(sizes):
        raise DataError(
            f"{', '.join(f'{part} {size:g}' for part, size in sizes.items())} of {amount(total, 'row')} in "
            f"{amount(len(members), 'cluster')} of prompts would leave nothing to train on; hold out less, or split "
            "more rows"
        )
    of_source = Counter(sources)
    wanted = {part: {name: share * count for name, count in of_source.items()} for part, share in shares.items()}
    # A cluster is ranked by the lowest hash of its prompts, so that its rank does not depend on the order of rows.
    ranked = sorted(members.values(), key=lambda rows: min(ranks[index] for index in rows))
    part_of = ["train"] * total
    filled: dict[str, Counter[str]] = {part: Counter() for part in sizes}
    for rows in ranked:
        needs = Counter(sources[index] for index in rows)
        for part in sizes:
            # Half a row of tolerance, so that small shares of small sources are reached on average.
            if all(filled[part][name] + count <= wanted[part][name] + 0.5 for name, count in needs.items()):
                filled[part].update(needs)
                for index in rows:
                    part_of[index] = part
                break
    empty = [part for part in sizes if not filled[part]]
    if empty:
        raise DataError(f"{', '.join(empty)} would be empty: the share is too small for {amount(total, 'row')}")
    return part_of


class _Rows:
    """The records of all sources in order, the dropped rows, and a report about each source."""

    def __init__(self, sources: Sequence[Source], request: DatasetRequest) -> None:
        self._readers = [SourceReader[Record](source, None, request) for source in sources]
        self.dropped: list[Dropped] = []
        self.reports: list[SourceReport] = []

    @property
    def kinds(self) -> dict[str, type[Record]]:
        """The kind of each source, by its path."""
        return {reader.source.path: reader.format.format.kind for reader in self._readers}

    def __iter__(self) -> Iterator[Record]:
        for reader in self._readers:
            yield from reader.records(self.dropped.append)
            self.reports.append(reader.report())

    def prompts(self, seed: int) -> tuple[array[int], list[str], npt.NDArray[np.uint8]]:
        """Per record the hash of its prompt (with the seed), its source and its prompt's MinHash; no text is kept."""
        ranks, names, signatures = array("Q"), [], bytearray()
        for record in self:
            ranks.append(split_key(record, seed))
            names.append(record.source)
            signatures += signature(_asked(record)).tobytes()
        return ranks, names, np.frombuffer(signatures, dtype=np.uint8).reshape(-1, PLACES)

    def parts(self, part_of: Sequence[str], counts: dict[str, Counter[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(part, row) of every record; raises `DataError` if a file changed since the first pass."""
        rows = 0
        for record in self:
            if rows < len(part_of):
                part = part_of[rows]
                counts[part][record.source] += 1
                yield part, palate_row(record) | {"origin": record.id}
            rows += 1
        if rows != len(part_of):
            raise DataError(f"a source changed while it was read: {rows:,} rows, before {len(part_of):,}")


def _asked(record: Record) -> str:
    """The text by which prompts are alike: the whole conversation but for the system text, which many rows share."""
    return "\n\n".join(turn.text for turn in prompt_or_text(record) if turn.role != "system")
