"""Recognises the format of a source from its first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice, permutations
from typing import NamedTuple

from palate.data.formats import single
from palate.data.formats.kinds import KIND_NAMES, can_become
from palate.data.formats.labels import LabelCounts, remedy
from palate.data.formats.paired import CONVERSATION_NAMES
from palate.data.formats.rows import PROMPT_NAMES, Reading, Row
from palate.data.formats.table import Format, all_formats
from palate.data.turns.cells import RowError, excerpt
from palate.errors import DataError
from palate.records import LabelledCompletion, PreferencePair, Record, ScoredCompletion

SAMPLE = 200
"""Rows that the format is recognised from."""


class Recognised(NamedTuple):
    """The format of a source, and the share of its first rows that have it."""

    format: Format
    confidence: float


def recognise(sample: Sequence[Row], reading: Reading, where: str, kind: type[Record] | None = None) -> Recognised:
    """Recognises the format of a source.

    Args:
        sample: those of its first rows that are objects.
        kind: the kind of record to make; formats of this kind are preferred, those that cannot become it are excluded.

    Raises:
        DataError: fewer than half of the rows have the same format; the message lists missing columns and remedies.
    """
    if not sample:
        raise DataError(f"{where}: none of its first rows is an object with named columns")
    fits = [(form, sum(form.matches(row, reading) for row in sample) / len(sample)) for form in all_formats()]
    usable = [(form, share) for form, share in fits if kind is None or can_become(form.kind, kind)]
    if kind is None and any(share >= 0.5 and form.kind is not Record for form, share in usable):
        # Rows with answers are not prompts, even if a few of them lack a column.
        usable = [(form, share) for form, share in usable if form.kind is not Record]
    best = max(usable, key=lambda fit: (fit[1], kind is not None and fit[0].kind is kind))
    if best[1] >= 0.5 and not (kind is None and best[0].kind is Record and _misnamed(sample, reading)):
        return Recognised(*best)
    forms = [form for form, _ in usable if kind is not None or form.kind is not Record]
    columns = ", ".join(excerpt(name, 40) for name in _columns(sample)[:12]) or "none"
    for form in forms:
        unclear = _unclear_label(form, sample, reading)
        if unclear is not None:
            raise DataError(f"{where}: the columns are those of {form.shape}, but {unclear}")
    unordered = _unordered(sample) if any(form.name == "ranked" for form in forms) else None
    if unordered is not None:
        raise DataError(f"{where}: {unordered}; columns found: {columns}")
    # Any row with a prompt could be read as prompts alone; naming the missing columns helps more.
    other, share = max((fit for fit in fits if fit[0].kind is not Record), key=lambda fit: fit[1])
    if kind is not None and share >= 0.5:
        alone = kind is PreferencePair and other.kind in (LabelledCompletion, ScoredCompletion)
        how = "; palate data convert --kind pairs compares the rows of one prompt" if alone else ""
        raise DataError(
            f"{where}: its rows are {other.shape} ({KIND_NAMES[other.kind]}), "
            f"which cannot become {KIND_NAMES[kind]}{how}; columns found: {columns}"
        )
    if kind is Record:
        known = ", ".join((*PROMPT_NAMES, *CONVERSATION_NAMES))
        raise DataError(
            f"{where}: no row has a prompt; known columns are {known}; map one of your own with "
            f"columns: {{prompt: YOUR_COLUMN}} in a config or in dataset_info.json; columns found: {columns}"
        )
    raise DataError(f"{where}: {_unrecognised(forms, sample, reading)}; columns found: {columns}")


def _misnamed(sample: Sequence[Row], reading: Reading) -> bool:
    """Whether rows that could be read as prompts have one of two answers, and a column that could be the other."""
    return any(
        form.name in _USUAL and _mapping_would_match(form, sample, reading)
        for form in all_formats()
        if form.kind is PreferencePair and {"chosen", "rejected"}.intersection(_columns(sample))
    )


def _unclear_label(form: Format, sample: Sequence[Row], reading: Reading) -> str | None:
    """The values of the label column, if the rows have all columns of a format but its labels are not understood."""
    columns = set(_columns(sample))
    if form.labels is None or not all(columns.intersection(names) for names in form.needs):
        return None
    first, counts = None, LabelCounts()
    for row in sample:
        with suppress(RowError):  # this row has no readable label; the message is about those that have one
            cells = form.labels(row, reading)
            first = first or cells
            for value in cells.values if cells is not None else ():
                counts.add(value)
    if first is None:
        return None
    return f"{first.column} has the values {counts}{remedy(counts, first.scheme, first.answers)}"


def _unordered(sample: Sequence[Row]) -> str | None:
    """Why the order of listed answers is not read as a ranking, if most rows list answers."""
    found = [columns for row in sample if (columns := single.unclear_order_columns(row))]
    if len(found) * 2 < len(sample):
        return None
    named = dict.fromkeys(name for columns in found for name in columns)
    return (
        f"the rows list several answers, and {', '.join(named)} may say which is better, so their order is not taken "
        "as a ranking; name the column with the index of the best one (columns: {best: YOUR_COLUMN}), with ranks, 1 "
        "for the best ({ranks: YOUR_COLUMN}), or with scores, higher for better ({rewards: YOUR_COLUMN}); if the first "
        "answer is the best, leave that column out of the file"
    )


def _unrecognised(forms: Sequence[Format], sample: Sequence[Row], reading: Reading) -> str:
    """Lists the missing columns of the nearest format, or all formats if none is near."""
    found = set(_columns(sample))

    def nearness(form: Format) -> tuple[bool, float, bool]:
        share = sum(bool(found.intersection(names)) for names in form.needs) / len(form.needs)
        return _mapping_would_match(form, sample, reading), share, form.name in _USUAL

    # Among equally near formats a usual one wins, then the most general: the last one in the table.
    near = max(reversed(forms), key=nearness)
    missing = [names[0] for names in near.needs if not found.intersection(names)]
    lacking = " and ".join(repr(name) for name in missing)
    has_some = len(missing) < len(near.needs)
    if _mapping_would_match(near, sample, reading):
        free = [name for name in _columns(sample) if name not in near.columns({})]
        yours = {name: next(iter(get_close_matches(name, free, 1)), "YOUR_COLUMN") for name in missing}
        return f"the rows lack {lacking} of {near.shape}; name the column that has it, {_naming(yours)}"
    if has_some and missing:
        return f"the rows lack {lacking} of {near.shape}"
    if has_some:
        return f"the columns are those of {near.shape} but their values are not"
    usual = next((form for name in _USUAL for form in forms if form.name == name), forms[0])
    columns = {names[0]: "YOUR_COLUMN" for names in usual.needs}
    return f"none of the formats of docs/formats.md; for {usual.shape} name your columns, {_naming(columns)}"


def _naming(columns: Mapping[str, str]) -> str:
    """How a config and a command name columns."""
    options = " ".join(f"--column {name}={column}" for name, column in columns.items())
    return f"columns: {{{', '.join(f'{name}: {column}' for name, column in columns.items())}}} or {options}"


def _mapping_would_match(form: Format, sample: Sequence[Row], reading: Reading) -> bool:
    """Whether the rows would have the format if some of their unused columns were renamed to the missing ones."""
    found = _columns(sample)
    missing = [names[0] for names in form.needs if not any(name in found for name in names)]
    free = [name for name in found if name not in form.columns({})]
    if not 0 < len(missing) < min(len(form.needs), len(free) + 1) or _ORDER.intersection(missing):
        return False
    for chosen in islice(permutations(free, len(missing)), _HINT_MAPPINGS):
        names = dict(zip(chosen, missing, strict=True))
        rows = [{names.get(key, key): value for key, value in row.items()} for row in sample[:_HINT_ROWS]]
        if sum(form.matches(row, reading) for row in rows) * 2 >= len(rows):
            return True
    return False


# No hints for columns that order answers: ranks that are renamed to rewards would be read in reverse.
_ORDER = frozenset({"rewards", "scores", "rank", "best"})

# A hint is tried before it is printed, on so many ways to rename columns and so many rows.
_HINT_MAPPINGS = 200
_HINT_ROWS = 20

_USUAL = ("prompt-pairs", "implicit-prompt", "conversations-pairs", "ranked", "labelled", "messages")


def _columns(sample: Sequence[Row]) -> list[str]:
    """Column names in order of appearance."""
    return list(dict.fromkeys(str(name) for row in sample for name in row))
