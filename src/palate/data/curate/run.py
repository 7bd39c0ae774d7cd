"""Applies rules to a dataset in two passes, so that no texts are kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from palate.artifacts.files import write_text
from palate.artifacts.folders import atomic_folder
from palate.charts.text import amount
from palate.data.contract import check_output_folder, write_contract
from palate.data.curate.base import BatchRule, Candidate, RowRule, Rule, SetRule
from palate.data.curate.batch_rules import Embedder, EmbeddingDifference
from palate.data.curate.funnel import Step, funnel_figure
from palate.data.formats.kinds import check_one_kind
from palate.data.formats.rows import RatedAnswers
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_parts
from palate.data.measures.pairs import measure
from palate.data.parallel import ordered_chunks
from palate.data.source_reader import SourceReader
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, PreferencePair, Record, SourceReport

KEPT, REJECTED = "kept.jsonl", "rejected.jsonl"


@dataclass(frozen=True, slots=True)
class Curation:
    """The result of a curation.

    Attributes:
        output: folder with kept.jsonl, rejected.jsonl, funnel.svg and data.json.
        steps: the funnel, from rows that cannot be read to the last rule.
        kept: number of rows kept.
        sources: the files read.
    """

    output: Path
    steps: tuple[Step, ...]
    kept: int
    sources: tuple[SourceReport, ...]


def curate(
    dataset: DatasetSpec | DatasetRequest,
    output: str | Path,
    rules: Sequence[Rule],
    *,
    workers: int = 1,
    embed: Embedder | None = None,
) -> Curation:
    """Apply rules in order and write kept and rejected rows. The result does not depend on `workers`.

    Args:
        output: folder to write; an existing one is replaced if palate wrote it, otherwise refused.
        embed: computes embeddings of texts, for the rule embedding_difference.

    Raises:
        ConfigError: embedding_difference is used without `embed`.
    """
    output = Path(output)
    rules = [rule.with_embedder(embed) if isinstance(rule, EmbeddingDifference) else rule for rule in rules]
    request = DatasetRequest.of(dataset)
    sources = find_sources(request)
    check_output_folder(output, sources)
    data = _Data(sources, request)
    check_one_kind(data.kinds())
    verdicts, candidates, unread = _first_pass(data, rules, workers)
    steps = [Step("read", "", len(candidates) + unread, unread)]
    out = _apply(rules, verdicts, candidates, steps)
    kept = len(candidates) - len(out)
    if not kept:
        last = max(steps, key=lambda step: step.left_out)
        raise DataError(f"no row is kept; most were left out by {last.rule} ({last.left_out:,} of {last.before:,})")
    unjudged = {step.rule: step.not_judged for step in steps if step.not_judged}
    reports: list[SourceReport] = []
    with atomic_folder(output) as folder:
        files = {"rows": folder / KEPT, "rejected": folder / REJECTED}
        write_parts(files, _written_rows(data, out, reports))
        check_labels_used(reports, request.labels)
        write_text(folder / "funnel.svg", funnel_figure(steps, f"{amount(kept, 'row')} kept"))
        write_contract(
            folder / "data.json",
            how="curate",
            files=files,
            counts={
                "kept": kept,
                "left_out": {step.rule: step.left_out for step in steps if step.left_out},
                **({"not_judged": unjudged} if unjudged else {}),
            },
            sources=sources,
            options={"rules": [{rule.name: rule.model_dump()} for rule in rules]},
            reports=reports,
        )
    return Curation(output, tuple(steps), kept, tuple(reports))


@dataclass(frozen=True, slots=True)
class _Data:
    """The dataset, read again for each pass."""

    sources: Sequence[Source]
    request: DatasetRequest

    def kinds(self) -> dict[str, type[Record]]:
        """The kind of records of each source, by path; rated answers become pairs."""
        kinds = {source.path: self._reader(source).format.format.kind for source in self.sources}
        return {path: PreferencePair if kind is RatedAnswers else kind for path, kind in kinds.items()}

    def items(self, reports: list[SourceReport]) -> Iterator[tuple[Record | Dropped, Any]]:
        """(record or dropped, the raw row) in the order of the files; adds a report on each source at its end."""
        for source in self.sources:
            reader = self._reader(source)
            for item in reader:
                yield item, reader.row
            reports.append(reader.report())

    def _reader(self, source: Source) -> SourceReader[Record]:
        """A reader of the source; rated answers are read as pairs, because rules work on pairs."""
        reader: SourceReader[Record] = SourceReader(source, None, self.request)
        if reader.format.format.kind is RatedAnswers:
            reader = SourceReader(source, PreferencePair, self.request)
        return reader


class _Verdict(NamedTuple):
    """The index of the first rule that a row fails (-1 for none), the reason, and the rules that cannot judge it."""

    rule: int = -1
    reason: str = ""
    unjudged: tuple[int, ...] = ()


def _first_pass(data: _Data, rules: Sequence[Rule], workers: int) -> tuple[list[_Verdict], list[Candidate], int]:
    """The verdict and candidate of every record, and the number of rows that cannot be read."""
    row_rules = [(index, rule) for index, rule in enumerate(rules) if isinstance(rule, RowRule) and not rule.off()]
    batch_rules = [(index, rule) for index, rule in enumerate(rules) if isinstance(rule, BatchRule)]
    unread = 0

    def records() -> Iterator[Record]:
        nonlocal unread
        for item, _ in data.items([]):
            if isinstance(item, Dropped):
                unread += 1
            else:
                yield item

    verdicts: list[_Verdict] = []
    candidates: list[Candidate] = []
    for chunk, judged in ordered_chunks(partial(_judge, rules=row_rules), records(), workers):
        found = [verdict for _, verdict in judged]
        for index, rule in batch_rules:
            # Rows that an earlier rule leaves out are skipped.
            waiting = [row for row, verdict in enumerate(found) if verdict.rule < 0 or index < verdict.rule]
            reasons = rule.fail_which([chunk[row] for row in waiting])
            for row, reason in zip(waiting, reasons, strict=True):
                if reason:
                    found[row] = found[row]._replace(rule=index, reason=reason)
        verdicts += found
        candidates += [candidate for candidate, _ in judged]
    return verdicts, candidates, unread


def _judge(records: Sequence[Record], rules: Sequence[tuple[int, RowRule]]) -> list[tuple[Candidate, _Verdict]]:
    """Measure records and apply `rules`, given as (index, rule); may run in a worker process."""
    judged = []
    for record in records:
        measures = measure(record)
        failed = ((index, reason) for index, rule in rules if (reason := rule.fails(record, measures)))
        first, reason = next(failed, (-1, ""))
        before = (rule for rule in rules if first < 0 or rule[0] < first)
        unjudged = tuple(index for index, rule in before if rule.cannot_judge(measures))
        judged.append((Candidate.of(record, measures), _Verdict(first, reason, unjudged)))
    return judged


def _apply(
    rules: Sequence[Rule], verdicts: Sequence[_Verdict], candidates: Sequence[Candidate], steps: list[Step]
) -> dict[int, tuple[str, str]]:
    """Rule and reason for each record left out, by index; adds a step for every rule."""
    remaining = list(range(len(candidates)))
    out: dict[int, tuple[str, str]] = {}
    for number, rule in enumerate(rules):
        if isinstance(rule, SetRule):
            removed = rule.leaves_out([candidates[index] for index in remaining])
            found = {remaining[position]: reason for position, reason in removed.items()}
        else:
            found = {index: verdicts[index].reason for index in remaining if verdicts[index].rule == number}
        out.update((index, (rule.name, reason)) for index, reason in found.items())
        unjudged = sum(number in verdicts[index].unjudged for index in remaining)
        known = rule.languages if isinstance(rule, RowRule) else ()
        steps.append(Step(rule.name, rule.off() or _settings(rule), len(remaining), len(found), unjudged, known))
        remaining = [index for index in remaining if index not in found]
    return out


def _written_rows(
    data: _Data, out: Mapping[int, tuple[str, str]], reports: list[SourceReport]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`rows` or `rejected`, row) of every row, in the order of the files."""
    numbers = count()
    for item, row in data.items(reports):
        if isinstance(item, Dropped):
            raw = {"row": row} if isinstance(row, Mapping | list | str | int | float) else {}
            yield "rejected", {"origin": item.id, "rejected_by": item.reason, "detail": item.detail, **raw}
            continue
        written = palate_row(item) | {"origin": item.id}
        rule, reason = out.get(next(numbers), ("", ""))
        yield ("rejected", {**written, "rejected_by": rule, "detail": reason}) if rule else ("rows", written)


def _settings(rule: Rule) -> str:
    """The thresholds of a rule as text; long lists are shown as their length."""
    shown = []
    for name, value in rule.model_dump().items():
        if isinstance(value, tuple):
            value = len(value) if len(value) > 4 else " ".join(map(str, value))
        shown.append(f"{name} {value}")
    return ", ".join(shown)
