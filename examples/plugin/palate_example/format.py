"""A data format: rows such as {"ask": "2+2?", "good": "4", "bad": "5"}."""

from palate.data.formats.rows import Origin, Reading, Row
from palate.data.formats.table import Format
from palate.records import Message, PreferencePair


def read(row: Row, origin: Origin, reading: Reading) -> PreferencePair:
    """A row as a pair."""
    del reading
    return PreferencePair(
        prompt=(Message("user", row["ask"]),),
        chosen=(Message("assistant", row["good"]),),
        rejected=(Message("assistant", row["bad"]),),
        **origin.fields(),  # id, source, weight, columns that are not read
    )


VERDICT_LINES = Format(
    name="verdict_lines",
    shape='{"ask": …, "good": …, "bad": …}',
    kind=PreferencePair,
    needs=(("ask",), ("good",), ("bad",)),
    read=read,
)
