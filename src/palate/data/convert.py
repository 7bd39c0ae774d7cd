"""One dataset in another format: every row written or listed, and what the format cannot hold said by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts.files import write_json
from palate.data.contract import write_contract
from palate.data.formats.kinds import KIND_NAMES, as_kind, can_become, record_kind
from palate.data.formats.rows import RatedAnswers, Reading, same_text
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import TARGETS, NotHeldError, Target, dataset_info_entry
from palate.data.formats.writers import write_rows
from palate.data.load import SourceReader, SourceReport
from palate.data.outputs import check_output_file
from palate.data.sources.dataset_info import REGISTER, read_register
from palate.data.sources.open import Source
from palate.data.sources.readers import bare_name, file_type
from palate.data.sources.spec import DatasetSpec, find_sources
from palate.data.split import prompt_key
from palate.data.turns.cells import RowError
from palate.errors import DataError, UsageError
from palate.records import Dropped, LabelledCompletion, PreferencePair, Record, ScoredCompletion

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        output: the file.
        to: name of the target format.
        written: rows written.
        kinds: records written by kind.
        left_out: rows that are not in the output, each with its reason; rows read = rows used + left out.
        loses: what the format has no place for, by name, with the number of rows that had it.
        sources: what was read.
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
    dataset: DatasetSpec,
    output: str | Path,
    *,
    to: str = "palate",
    kind: str | None = None,
    dataset_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    subset: str | None = None,
    max_samples: int | None = None,
    reading: Reading | None = None,
) -> Conversion:
    """Writes a dataset in another format.

    Args:
        dataset, dataset_dir, columns, split, subset, max_samples, reading: as in `load_records`.
        output: the file to write; its name says whether it is .jsonl, .json, .csv, .tsv, .parquet or .arrow.
        to: a name of `TARGETS`.
        kind: a name of `KINDS`: the records to write, where the rows can become them. Without it they stay what they
            are if the target can hold them.
    """
    target, path = _target(to), Path(output)
    sources = find_sources(dataset, dataset_dir=dataset_dir, split=split, subset=subset)
    run = _Run(target, None if kind is None else record_kind(kind), Counter(), Counter(), [], [])
    readers = (
        SourceReader[Record](source, None, columns=columns, max_samples=max_samples, reading=reading)
        for source in sources
    )
    check_output_file(path, sources)
    register = _register(path) if target.name == "llamafactory" else {}

    def rows() -> Iterator[dict[str, Any]]:
        yield from run.rows(readers, reading or Reading())
        check_labels_used(run.reports, reading)
        if not run.kinds:  # raised before the file is in its place, so that one that was there stays
            reasons = ", ".join(f"{reason} {count}" for reason, count in run.reasons().most_common(3))
            raise DataError(f"{sources[0].path}: nothing to write as {to}: {reasons}")

    written = write_rows(path, rows())
    beside = _write_beside(path, target, run, sources, register)
    return Conversion(
        output=path,
        to=to,
        written=written,
        kinds=dict(run.kinds),
        left_out=tuple(run.left_out),
        loses=dict(run.loses.most_common()),
        sources=tuple(run.reports),
        beside=beside,
    )


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
            yield PreferencePair(
                id=good.id,
                prompt=good.prompt,
                source=good.source,
                weight=good.weight,
                tools=good.tools,
                extra=good.extra,
                chosen=good.completion,
                rejected=bad.completion,
            )
        shorter = min(len(wanted), len(unwanted))
        for alone in (*wanted[shorter:], *unwanted[shorter:]):
            label = "wanted" if alone.desirable else "unwanted"
            yield Dropped(
                alone.id, "no_partner", f"no other answer to its prompt is left to pair this {label} one with"
            )


def compare_scored(records: Iterable[ScoredCompletion], reading: Reading) -> Iterator[PreferencePair | Dropped]:
    """Scored completions as pairs: those of one prompt are compared as rated answers are, in the order read.

    One that is in no pair is dropped: `no_partner` (the only answer to its prompt), `tie`, or `not_compared` (neither
    the best nor the worst, where `reading.ratings` takes those).
    """
    by_prompt: dict[str, list[ScoredCompletion]] = defaultdict(list)
    for record in records:
        by_prompt[prompt_key(record.prompt)].append(record)
    for answers in by_prompt.values():
        if len(answers) == 1:
            yield Dropped(answers[0].id, "no_partner", "no other answer to its prompt has a score")
            continue
        first = answers[0]
        rated = RatedAnswers(
            id=first.id,
            prompt=first.prompt,
            source=first.source,
            weight=first.weight,
            tools=first.tools,
            completions=tuple(answer.completion for answer in answers),
            scores=tuple(answer.score for answer in answers),
        )
        try:
            pairs = as_kind(rated, PreferencePair, reading)
        except RowError as error:
            yield from (Dropped(answer.id, error.reason, error.detail) for answer in answers)
            continue
        yield from pairs
        used = {id(side) for pair in pairs for side in (pair.chosen, pair.rejected)}
        for answer in answers:
            if id(answer.completion) not in used:
                yield Dropped(answer.id, "not_compared", f"is not in a pair by --ratings {reading.ratings}")


@dataclass(slots=True)
class _Run:
    """What a conversion counts while its rows go by."""

    target: Target
    kind: type[Record] | None
    kinds: Counter[str]
    loses: Counter[str]
    left_out: list[Dropped]
    reports: list[SourceReport]
    columns: dict[str, None] | None = None
    written_kind: type[Record] | None = None

    def rows(self, readers: Iterable[SourceReader[Record]], reading: Reading) -> Iterator[dict[str, Any]]:
        for reader in readers:
            natural = reader.format.format.kind
            wanted = self._wanted(natural, reader.source)
            if self.written_kind is not None and self.written_kind is not wanted:
                raise UsageError(
                    f"{reader.source.path}: would become {KIND_NAMES[wanted]}, what was read before it "
                    f"{KIND_NAMES[self.written_kind]}; one file holds one kind: give --kind, or convert them apart"
                )
            self.written_kind = wanted
            if natural is LabelledCompletion and wanted is PreferencePair:
                yield from self._written(pair_up(self._of_kind(reader, LabelledCompletion)))
            elif natural is ScoredCompletion and wanted is PreferencePair:
                yield from self._written(compare_scored(self._of_kind(reader, ScoredCompletion), reading))
            else:
                yield from self._written(self._turned(reader, wanted, reading))
            self.reports.append(reader.report())

    def reasons(self) -> Counter[str]:
        return Counter(drop.reason for drop in self.left_out)

    def _wanted(self, natural: type[Record], source: Source) -> type[Record]:
        wanted = self.kind or (natural if natural in self.target.kinds else None)
        if wanted is None:
            wanted = next((kind for kind in self.target.kinds if can_become(natural, kind)), self.target.kinds[0])
        if wanted not in self.target.kinds:
            held = ", ".join(KIND_NAMES[kind] for kind in self.target.kinds)
            raise UsageError(f"{self.target.name} holds {held}, not {KIND_NAMES[wanted]}")
        compared = wanted is PreferencePair and natural in (LabelledCompletion, ScoredCompletion)
        if not can_become(natural, wanted) and not compared:
            raise DataError(f"{source.path}: {KIND_NAMES[natural]} cannot become {KIND_NAMES[wanted]}")
        return wanted

    def _of_kind(self, reader: SourceReader[Record], kind: type[R]) -> Iterator[R]:
        for item in reader:
            if isinstance(item, Dropped):
                self.left_out.append(item)
            elif isinstance(item, kind):
                yield item

    def _turned(
        self, reader: SourceReader[Record], wanted: type[Record], reading: Reading
    ) -> Iterator[Record | Dropped]:
        for item in reader:
            if isinstance(item, Dropped):
                yield item
                continue
            try:
                yield from as_kind(item, wanted, reading)
            except RowError as error:
                yield Dropped(item.id, error.reason, error.detail)

    def _written(self, items: Iterable[Record | Dropped]) -> Iterator[dict[str, Any]]:
        for item in items:
            if isinstance(item, Dropped):
                self.left_out.append(item)
                continue
            try:
                row = self.target.row(item)
            except NotHeldError as error:
                self.left_out.append(Dropped(item.id, "not_held", f"{self.target.name}: {error}"))
                continue
            self.kinds[KIND_NAMES[type(item)]] += 1
            self.loses.update(self.target.loses(item))
            self.columns = {**(self.columns or {}), **dict.fromkeys(row)}
            yield row


def _register(path: Path) -> dict[str, Any]:
    """The entries of the register beside a file, looked at before anything is written."""
    if path.name == REGISTER:
        raise UsageError(f"{path}: is the name of LLaMA-Factory's register; name another file to write")
    return read_register(path.parent)


def _write_beside(
    path: Path, target: Target, run: _Run, sources: list[Source], register: Mapping[str, Any]
) -> tuple[Path, ...]:
    beside = []
    if file_type(path) in ("csv", "tsv"):
        run.loses["types of other columns (they are text in CSV)"] = sum(run.kinds.values())
    if target.name == "llamafactory":
        entry = dataset_info_entry(path.name, run.written_kind or Record, run.columns or {})
        beside.append(write_json(path.parent / REGISTER, {**register, bare_name(path): entry}))
    card = path.with_name(f"{path.name}.data.json")
    left_out = dict(run.reasons())
    beside.append(
        write_contract(
            card,
            how="convert",
            files={"rows": path},
            counts={"written": sum(run.kinds.values()), "left_out": left_out},
            sources=sources,
            options={"to": target.name, "loses": dict(run.loses)},
            reports=[replace(report) for report in run.reports],
            left_out=run.left_out,
        )
    )
    return tuple(beside)


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise UsageError(f"palate does not write {name!r}; it writes {', '.join(TARGETS)}")
    return TARGETS[name]
