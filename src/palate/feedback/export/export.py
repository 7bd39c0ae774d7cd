"""Votes as training data: pairs or labelled answers in the format of a trainer, with lineage and a dataset card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from palate.artifacts import write_text
from palate.data.contract import write_contract
from palate.data.convert import add_to_register, check_register
from palate.data.formats.rows import checked_completion, checked_prompt, same_text
from palate.data.formats.targets import TARGETS, UnsupportedRecordError
from palate.data.formats.writers import write_rows
from palate.data.turns.cells import RowError
from palate.errors import DataError, UsageError
from palate.feedback.export.aggregate import Aggregate
from palate.feedback.export.collection import Collection
from palate.feedback.export.dataset_card import dataset_card
from palate.feedback.export.labels import make_labels
from palate.feedback.export.pairs import Pairs, Select, make_pairs
from palate.feedback.export.vote_filter import FilteredVotes, Voters, filter_votes
from palate.records import Dropped, LabelledCompletion, PreferencePair

Format: TypeAlias = Literal["palate", "trl", "llamafactory", "kto"]
TrainingRecord: TypeAlias = PreferencePair | LabelledCompletion

_COUNTS = ("rows", "votes", "votes_left_out", "compared", "repeated", "conflicts", "left_out")
"""Of `Export`, in `FILE.data.json`."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How votes become rows.

    Attributes:
        to: the format: `kto` has labelled answers, the others pairs.
        aggregate, min_votes: as in `decide` and `make_pairs`.
        select: as in `make_pairs`; pairs only.
        voters: whose votes count; must be given if people and judges voted.
        identity_leaks: whether votes on answers that name their maker count.
        flagged: whether comparisons that a person flagged count.
    """

    to: Format = "palate"
    aggregate: Aggregate = "majority"
    select: Select = "all"
    voters: Voters | None = None
    min_votes: int = 1
    identity_leaks: bool = False
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did.

    Attributes:
        output: the file of rows.
        to: its format.
        rows: number of rows.
        labels: KTO rows by label (`desirable`, `undesirable`); empty for pairs.
        votes: votes that count, and `voters` by kind.
        votes_left_out: votes that do not count, by reason.
        compared: pairs of answers with a vote that counts.
        repeated: of them, those with two votes or more; `conflicts`: of these, those with a vote for each answer.
        left_out: comparisons, answers and rows that are not in the output, by reason.
        same_model: rows that compare a model with itself.
        beside: further files written.
    """

    output: Path
    to: str
    rows: int
    labels: Mapping[str, int]
    votes: int
    voters: Mapping[str, int]
    votes_left_out: Mapping[str, int]
    compared: int
    repeated: int
    conflicts: int
    left_out: Mapping[str, int]
    same_model: int
    beside: tuple[Path, ...]

    @property
    def conflict_rate(self) -> float | None:
        """`conflicts` / `repeated`; None if no two answers have two votes."""
        return self.conflicts / self.repeated if self.repeated else None


def export_votes(collection: Collection, output: str | Path, options: ExportOptions | None = None) -> Export:
    """Write the training rows of a collection, with `FILE.data.json` and the dataset card `FILE.README.md`.

    Raises:
        UsageError: people and judges voted, and the options do not say whose votes count.
        DataError: nothing is left to write; names the reasons.
    """
    path, options = Path(output), options or ExportOptions()
    check_output(path, collection)
    if options.to == "llamafactory":
        check_register(path)
    used = filter_votes(collection.votes, voters=options.voters, identity_leaks=options.identity_leaks)
    records, left_out, pairs = _records(collection, used, options)
    rows, dropped = _rows(records, options.to)
    left_out += Counter(drop.reason for drop in dropped)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in {**used.left_out, **left_out}.items())
        raise DataError(
            f"{collection.source.name}: no row can be written as {options.to}: {reasons or 'there is no vote'}"
        )
    write_rows(path, rows)
    contract, card = path.with_name(f"{path.name}.data.json"), path.with_name(f"{path.name}.README.md")
    register = []
    if options.to == "llamafactory":
        register.append(add_to_register(path, PreferencePair, dict.fromkeys(name for row in rows for name in row)))
    done = Export(
        output=path,
        to=options.to,
        rows=len(rows),
        labels=dict(Counter("desirable" if row["label"] else "undesirable" for row in rows if "label" in row)),
        votes=len(used.votes),
        voters=used.kinds,
        votes_left_out=used.left_out,
        compared=pairs.compared,
        repeated=pairs.repeated,
        conflicts=pairs.conflicts,
        left_out=dict(left_out.most_common()),
        same_model=sum(row["lineage"]["same_model"] for row in rows),
        beside=(*register, contract, card),
    )
    write_contract(
        contract,
        how="label export",
        files={"rows": path},
        counts={name: getattr(done, name) for name in _COUNTS},
        sources=(),
        options={**asdict(options), **collection.origin()},
        left_out=dropped,
    )
    write_text(card, dataset_card(done, options, used, rows, collection))
    return done


def write_votes(collection: Collection, output: str | Path) -> int:
    """Write all votes, superseded ones too, as `read_votes` reads them; returns their number."""
    return _write_raw(collection, Path(output), [vote.to_json() for vote in collection.votes], "votes")


def write_candidates_of(collection: Collection, output: str | Path) -> int:
    """Write the candidates as `read_candidates` reads them; returns their number."""
    return _write_raw(collection, Path(output), [row.to_json() for row in collection.candidates], "candidates")


def check_output(path: Path, collection: Collection) -> None:
    """Raises UsageError if the file to write is also read."""
    if path.exists() and any(path.samefile(file) for file in collection.files.values()):
        raise UsageError(f"{path}: is an input file; name another file to write")


def _write_raw(collection: Collection, path: Path, rows: list[dict[str, Any]], what: str) -> int:
    check_output(path, collection)
    if path.suffix != ".jsonl":
        raise UsageError(f"{path}: {what} are written as JSON lines; name a file that ends in .jsonl")
    if not rows:
        raise DataError(f"{collection.source.name}: there are no {what} to write")
    return write_rows(path, rows)


def _records(
    collection: Collection, used: FilteredVotes, options: ExportOptions
) -> tuple[list[TrainingRecord], Counter[str], Pairs]:
    """The records of the format, counts of what gave none by reason, and the pairs with the counts of comparisons."""
    given = (collection.candidates, used.votes)
    aggregate, min_votes, flagged = options.aggregate, options.min_votes, () if options.flagged else used.flagged
    pairs = make_pairs(*given, select=options.select, aggregate=aggregate, min_votes=min_votes, flagged=flagged)
    if options.to != "kto":
        return [pair.record(collection.source) for pair in pairs.pairs], Counter(pairs.left_out), pairs
    labels = make_labels(*given, aggregate=aggregate, min_votes=min_votes, flagged=flagged)
    return [label.record(collection.source) for label in labels.labels], Counter(labels.left_out), pairs


def _rows(records: list[TrainingRecord], to: Format) -> tuple[list[dict[str, Any]], list[Dropped]]:
    """The records as rows, and those that a trainer could not read or the format cannot represent."""
    rows: list[dict[str, Any]] = []
    dropped = []
    for record in records:
        try:
            _check(record)
            rows.append({"id": record.id, **TARGETS[to].row(record), "weight": record.weight})
        except RowError as error:
            dropped.append(Dropped(record.id, error.reason, error.detail))
        except UnsupportedRecordError as error:
            dropped.append(Dropped(record.id, "not_held", f"{to}: {error}"))
    return rows, dropped


def _check(record: TrainingRecord) -> None:
    """Raises RowError if loading the row would drop it."""
    checked_prompt(record.prompt)
    if isinstance(record, LabelledCompletion):
        checked_completion(record.completion, "completion")
        return
    checked_completion(record.chosen, "chosen")
    checked_completion(record.rejected, "rejected")
    if same_text(record.chosen, record.rejected):
        raise RowError("equal", "chosen and rejected are equal")
