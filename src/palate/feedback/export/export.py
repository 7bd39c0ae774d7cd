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
from palate.feedback.export.dataset_card import CardFacts, dataset_card
from palate.feedback.export.labels import make_labels
from palate.feedback.export.pairs import Select, make_pairs
from palate.feedback.export.vote_filter import FilteredVotes, Voters, filter_votes
from palate.records import Dropped, LabelledCompletion, PreferencePair

Format: TypeAlias = Literal["palate", "trl", "llamafactory", "kto"]
TrainingRecord: TypeAlias = PreferencePair | LabelledCompletion


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
    made = _make(collection, used, options)
    rows, dropped = _rows(made.records, options.to)
    left_out = Counter(made.left_out) + Counter(drop.reason for drop in dropped)
    if not rows:
        reasons = _listed({**used.left_out, **left_out}) or "there is no vote"
        raise DataError(f"{collection.source.name}: no row can be written as {options.to}: {reasons}")
    write_rows(path, rows)
    beside = []
    if options.to == "llamafactory":
        beside.append(add_to_register(path, PreferencePair, dict.fromkeys(name for row in rows for name in row)))
    facts = CardFacts(
        name=path.name,
        to=options.to,
        aggregate=options.aggregate,
        select=options.select,
        rows=len(rows),
        prompts=len({row["lineage"]["item"] for row in rows}),
        votes=used,
        compared=made.compared,
        repeated=made.repeated,
        conflicts=made.conflicts,
        left_out=dict(left_out.most_common()),
        labels=dict(Counter("desirable" if row["label"] else "undesirable" for row in rows if "label" in row)),
        same_model=sum(row["lineage"]["same_model"] for row in rows),
        models=tuple(sorted({model for row in rows for model in row["lineage"]["models"] if model})),
    )
    beside.append(_contract(path, collection, options, facts, dropped))
    beside.append(write_text(path.with_name(f"{path.name}.README.md"), dataset_card(facts, collection)))
    return Export(
        path, options.to, len(rows), facts.labels, len(used.votes), used.kinds, used.left_out, made.compared,
        made.repeated, made.conflicts, facts.left_out, facts.same_model, tuple(beside),
    )  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class _Made:
    """Records made from votes, with the counts of `Pairs`."""

    records: list[TrainingRecord]
    left_out: Mapping[str, int]
    compared: int
    repeated: int
    conflicts: int


def _make(collection: Collection, used: FilteredVotes, options: ExportOptions) -> _Made:
    flagged = () if options.flagged else used.flagged
    pairs = make_pairs(
        collection.candidates,
        used.votes,
        select=options.select,
        aggregate=options.aggregate,
        min_votes=options.min_votes,
        flagged=flagged,
    )
    counts = (pairs.compared, pairs.repeated, pairs.conflicts)
    if options.to != "kto":
        return _Made([pair.record(collection.source) for pair in pairs.pairs], pairs.left_out, *counts)
    labels = make_labels(
        collection.candidates, used.votes, aggregate=options.aggregate, min_votes=options.min_votes, flagged=flagged
    )
    return _Made([label.record(collection.source) for label in labels.labels], labels.left_out, *counts)


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


def _contract(
    path: Path, collection: Collection, options: ExportOptions, facts: CardFacts, dropped: list[Dropped]
) -> Path:
    counts = {
        "rows": facts.rows,
        "votes": len(facts.votes.votes),
        "votes_left_out": dict(facts.votes.left_out),
        "compared": facts.compared,
        "repeated": facts.repeated,
        "conflicts": facts.conflicts,
        "left_out": dict(facts.left_out),
    }
    return write_contract(
        path.with_name(f"{path.name}.data.json"),
        how="label export",
        files={"rows": path},
        counts=counts,
        sources=(),
        options={**asdict(options), **collection.origin()},
        left_out=dropped,
    )


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
