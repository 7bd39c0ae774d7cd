"""Row ids of a whole dataset in about 15 bytes each."""

from __future__ import annotations

from array import array


class RowIds:
    """A list of ids such as `file.jsonl:17` that keeps each file's name once and the rest as bytes in a row."""

    def __init__(self) -> None:
        self._labels: dict[str, int] = {}
        self._names: list[str] = []
        self._label_of = array("I")
        self._tails = bytearray()
        self._ends = array("Q")

    def append(self, row_id: str) -> None:
        """Adds an id at the end."""
        label, colon, tail = row_id.rpartition(":")
        place = self._labels.setdefault(label + colon, len(self._names))
        if place == len(self._names):
            self._names.append(label + colon)
        self._label_of.append(place)
        self._tails += tail.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._tails))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        tail = self._tails[start : self._ends[index]].decode("utf-8", "surrogatepass")
        return self._names[self._label_of[index]] + tail
