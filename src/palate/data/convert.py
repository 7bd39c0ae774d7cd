"""A dataset in another format: every row is written or listed; content that the format cannot hold is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.artifacts.files import write_json
from palate.data.contract import check_output_file, write_contract
from palate.data.formats.kinds import KIND_NAMES, as_kind, can_become, record_kind, shared_fields
from palate.data.formats.rows import RatedAnswers, same_text
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import TARGETS, Target, UnsupportedRecordError, dataset_info_entry
from palate.data.formats.writers import write_rows
from palate.data.load import top_reasons
from palate.data.source_reader import SourceReader
from palate.data.sources.dataset_info import REGISTER, read_register
from palate.data.sources.open import Source
from palate.data.sources.readers import bare_name, file_type
from palate.data.sources.spec import find_sources
from palate.data.turns.cells import RowError
from palate.errors import DataError, UsageError
from palate.records import (
    DatasetRequest,
    DatasetSpec,
    Dropped,
    LabelledCompletion,
    PreferencePair,
    Record,
    ScoredCompletion,
    SourceReport,
    prompt_key,
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        output: the file.
        to: name of the target format.
        written: rows written.
        kinds: records written by kind.
        left_out: rows that are not in the output, each with its reason; rows read = rows used + left out.
        loses: content that the format cannot hold, by name, with the number of rows that had it.
        sources: how each source was read.
        beside: further files written.
    """

    output: Path
    to: str
    written: int
    kinds: Mapping[str, int]
    left_out: tuple[Dropped, ...]
    loses: Mapping[str, int]
    sources: tuple[SourceReport, ...]
    beside: tuple[Path, ...]


def convert(
    dataset: DatasetSpec | DatasetRequest, output: str | Path, *, to: str = "palate", kind: str | None = None
) -> Conversion:
    """Writes a dataset in another format.

    Args:
        output: the file to write: .jsonl, .json, .csv, .tsv, .parquet or .arrow.
        to: a name of `TARGETS`.
        kind: a name of `KINDS`: the records to write, if the rows can become them. By default their own kind, if the
            target can hold it.
    """
    if to not in TARGETS:
        raise UsageError(f"palate does not write {to!r}; it writes {', '.join(TARGETS)}")
    request, path = DatasetRequest.of(dataset), Path(output)
    sources = find_sources(request)
    run = _Run(TARGETS[to], None if kind is None else record_kind(kind), request)
    check_output_file(path, sources)
    if to == "llamafactory":
        check_register(path)
    written = write_rows(path, run.rows(sources))
    if file_type(path) in ("csv", "tsv"):
        run.loses["types of other columns (they are text in CSV)"] = written
    registered = to == "llamafactory"
    beside = [add_to_register(path, run.written_kind or Record, run.columns)] if registered else []
    card = write_contract(
        path.with_name(f"{path.name}.data.json"),
        how="convert",
        files={"rows": path},
        counts={"written": written, "left_out": dict(Counter(drop.reason for drop in run.left_out))},
        sources=sources,
        options={"to": to, "loses": dict(run.loses)},
        reports=run.reports,
        left_out=run.left_out,
    )
    return Conversion(
        output=path,
        to=to,
        written=written,
        kinds=dict(run.kinds),
        left_out=tuple(run.left_out),
        loses=dict(run.loses.most_common()),
        sources=tuple(run.reports),
        beside=(*beside, card),
    )


def check_register(path: Path) -> None:
    """Refuses a file in the place of LLaMA-Factory's register, and a damaged register, before anything is written."""
    if path.name == REGISTER:
        raise UsageError(f"{path}: is the name of LLaMA-Factory's register; name another file to write")
    read_register(path.parent)


def add_to_register(path: Path, kind: type[Record], columns: Iterable[str]) -> Path:
    """Adds a file of the `llamafactory` target to the `dataset_info.json` of its folder; other entries are kept."""
    entry = dataset_info_entry(path.name, kind, columns)
    return write_json(path.parent / REGISTER, {**read_register(path.parent), bare_name(path): entry})


def pair_up(records: Iterable[LabelledCompletion]) -> Iterator[PreferencePair | Dropped]:
    """Labelled completions as pairs: every wanted answer with an unwanted one to the same prompt, in the order read.

    Each record is used once; one that finds no partner is dropped with the reason `no_partner`.
    """
    by_prompt: dict[str, tuple[list[LabelledCompletion], list[LabelledCompletion]]] = defaultdict(lambda: ([], []))
    for record in records:
        by_prompt[prompt_key(record.prompt)][not record.desirable].append(record)
    for wanted, unwanted in by_prompt.values():
        for good, bad in zip(wanted, unwanted, strict=False):
            if same_text(good.completion, bad.completion):
                yield Dropped(good.id, "equal", f"the same answer has both labels, see {bad.id}")
                yield Dropped(bad.id, "equal", f"the same answer has both labels, see {good.id}")
                continue
            yield PreferencePair(**shared_fields(good), chosen=good.completion, rejected=bad.completion)
        shorter = min(len(wanted), len(unwanted))
        for alone in (*wanted[shorter:], *unwanted[shorter:]):
            label = "wanted" if alone.desirable else "unwanted"
            yield Dropped(
                alone.id, "no_partner", f"no other answer to its prompt is left to pair this {label} one with"
            )


def compare_scored(records: Iterable[ScoredCompletion], request: DatasetRequest) -> Iterator[PreferencePair | Dropped]:
    """Scored completions as pairs: those of one prompt are compared as rated answers are, in the order read.

    One that is in no pair is dropped: `no_partner` (the only answer to its prompt), `tie`, or `not_compared` (neither
    the best nor the worst, where `request.ratings` takes those).
    """
    by_prompt: dict[str, list[ScoredCompletion]] = defaultdict(list)
    for record in records:
        by_prompt[prompt_key(record.prompt)].append(record)
    for answers in by_prompt.values():
        if len(answers) == 1:
            yield Dropped(answers[0].id, "no_partner", "no other answer to its prompt has a score")
            continue
        rated = RatedAnswers(
            **{**shared_fields(answers[0]), "extra": {}},
            completions=tuple(answer.completion for answer in answers),
            scores=tuple(answer.score for answer in answers),
        )
        try:
            pairs = as_kind(rated, PreferencePair, request)
        except RowError as error:
            yield from (Dropped(answer.id, error.reason, error.detail) for answer in answers)
            continue
        yield from pairs
        used = {id(side) for pair in pairs for side in (pair.chosen, pair.rejected)}
        for answer in answers:
            if id(answer.completion) not in used:
                yield Dropped(answer.id, "not_compared", f"is not in a pair by --ratings {request.ratings}")


@dataclass(slots=True)
class _Run:
    """What a conversion counts while its rows are read."""

    target: Target
    kind: type[Record] | None
    request: DatasetRequest
    kinds: Counter[str] = field(default_factory=Counter)
    loses: Counter[str] = field(default_factory=Counter)
    left_out: list[Dropped] = field(default_factory=list)
    reports: list[SourceReport] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    written_kind: type[Record] | None = None

    def rows(self, sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
        """The rows of all sources in the target's format."""
        for source in sources:
            yield from self._rows(SourceReader(source, None, self.request))
        check_labels_used(self.reports, self.request.labels)
        if not self.kinds:  # raised before the file is renamed, so that an earlier one stays
            raise DataError(f"{sources[0].path}: nothing to write as {self.target.name}: {top_reasons(self.left_out)}")

    def _rows(self, reader: SourceReader[Record]) -> Iterator[dict[str, Any]]:
        natural = reader.format.format.kind
        wanted = self._wanted(natural, reader.source)
        if self.written_kind is not None and self.written_kind is not wanted:
            raise UsageError(
                f"{reader.source.path}: would become {KIND_NAMES[wanted]}, the sources before it "
                f"{KIND_NAMES[self.written_kind]}; one file holds one kind: give --kind, or convert them apart"
            )
        self.written_kind = wanted
        for item in self._converted(reader.records(self.left_out.append), natural, wanted):
            if isinstance(item, Dropped):
                self.left_out.append(item)
                continue
            try:
                row = self.target.row(item)
            except UnsupportedRecordError as error:
                self.left_out.append(Dropped(item.id, "not_held", f"{self.target.name}: {error}"))
                continue
            self.kinds[KIND_NAMES[type(item)]] += 1
            self.loses.update(self.target.loses(item))
            self.columns.update(dict.fromkeys(row))
            yield row
        self.reports.append(reader.report())

    def _wanted(self, natural: type[Record], source: Source) -> type[Record]:
        """The kind to write for a source whose rows are `natural`."""
        held = self.target.kinds
        wanted = self.kind or (natural if natural in held else None)
        wanted = wanted or next((kind for kind in held if can_become(natural, kind)), held[0])
        if wanted not in held:
            names = ", ".join(KIND_NAMES[kind] for kind in held)
            raise UsageError(f"{self.target.name} holds {names}, not {KIND_NAMES[wanted]}")
        if not can_become(natural, wanted) and not _compares(natural, wanted):
            raise DataError(f"{source.path}: {KIND_NAMES[natural]} cannot become {KIND_NAMES[wanted]}")
        return wanted

    def _converted(
        self, records: Iterable[Any], natural: type[Record], wanted: type[Record]
    ) -> Iterator[Record | Dropped]:
        if _compares(natural, wanted):
            yield from pair_up(records) if natural is LabelledCompletion else compare_scored(records, self.request)
            return
        for record in records:
            try:
                yield from as_kind(record, wanted, self.request)
            except RowError as error:
                yield Dropped(record.id, error.reason, error.detail)


def _compares(natural: type[Record], wanted: type[Record]) -> bool:
    """Whether the rows of one prompt are compared with each other to make pairs."""
    return wanted is PreferencePair and natural in (LabelledCompletion, ScoredCompletion)
