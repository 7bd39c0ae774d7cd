"""The records of a run's dataset, read from its files each time they are asked for, so that none is kept in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np

from palate.data.load import draw_for, read_sources
from palate.data.source_reader import SourceReader
from palate.data.sources.spec import find_sources
from palate.data.split import held_out, split_key
from palate.errors import DataError
from palate.records import DatasetRequest, Record

R = TypeVar("R", bound=Record)

_LEFT_OUT, _TRAIN, _HELD_OUT = range(3)


class RecordStream(Generic[R]):
    """A dataset or a mixture in two parts, to train on and held out: the records of `load_records` and `split_records`.

    The rows are read once at the start, which counts and checks them, and once more for each part. In memory are a byte
    for each record, its prompt's hash (8 bytes) if a part is held out, and its id if there is a mixture.

    Args:
        temperature, caps: as for `load_records`.
        val_size: as for `split_records`.

    Attributes:
        sources: a report on each source.
        dropped: rows that cannot be used, and records that the mixture leaves out.

    Raises:
        DataError: as `load_records` and `split_records`.
    """

    def __init__(
        self,
        request: DatasetRequest,
        kind: type[R],
        *,
        temperature: float | None = None,
        caps: Mapping[str, int] | None = None,
        val_size: float = 0.0,
        keep_columns: bool = False,
    ) -> None:
        self._request, self._kind, self._keep_columns = request, kind, keep_columns
        self._sources = find_sources(request)
        mixed = isinstance(request.dataset, Mapping) or temperature is not None or caps is not None
        counts = [0] * len(self._sources)
        keys = array("Q")
        ids: list[list[str]] = [[] for _ in self._sources]

        def keep(source: int, record: R) -> None:
            counts[source] += 1
            if val_size:
                keys.append(split_key(record, request.seed))
            if mixed:
                ids[source].append(record.id)

        self.sources, self.dropped = read_sources(self._sources, kind, request, keep, keep_columns=keep_columns)
        self._part = np.full(sum(counts), _TRAIN, dtype=np.uint8)
        if mixed:
            taken, self.sources, left_out = draw_for(
                request, self._sources, ids, self.sources, temperature=temperature, caps=caps
            )
            self.dropped += left_out
            self._part[~np.concatenate([np.array(of, dtype=np.bool_) for of in taken])] = _LEFT_OUT
        if val_size:
            drawn = np.flatnonzero(self._part == _TRAIN)
            self._part[drawn[held_out(np.frombuffer(keys, dtype=np.uint64)[drawn], val_size)]] = _HELD_OUT

    def __len__(self) -> int:
        """Records of both parts."""
        return int(np.count_nonzero(self._part))

    def count(self, *, held_out: bool) -> int:
        """Records of one part."""
        return int(np.count_nonzero(self._part == (_HELD_OUT if held_out else _TRAIN)))

    def read(self, *, held_out: bool) -> Iterator[R]:
        """The records of one part, in order.

        Raises:
            DataError: a file has changed since the start.
        """
        parts, wanted = iter(self._part), _HELD_OUT if held_out else _TRAIN
        changed = DataError(f"{self._sources[0].path}: the dataset changed while it was read; run again")
        for source in self._sources:
            reader = SourceReader(source, self._kind, self._request, keep_columns=self._keep_columns)
            for record in reader.records(lambda _: None):  # counted at the start
                part = next(parts, None)
                if part is None:
                    raise changed
                if part == wanted:
                    yield record
        if next(parts, None) is not None:
            raise changed
