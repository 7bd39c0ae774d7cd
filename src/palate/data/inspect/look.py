"""One pass over a dataset that looks at every row, and the checks that need all rows together."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.held_out import evaluation_texts
from palate.data.inspect.coverage import PromptSample, gaps, prompt_clusters
from palate.data.inspect.inspection import Inspection, Spread
from palate.data.inspect.problems import Collector
from palate.data.inspect.tokens import TokenLooker
from palate.data.kinds import KIND_NAMES
from palate.data.load import DatasetSpec, SourceReader, SourceReport, find_sources
from palate.data.measures.leaks import EvaluationTexts
from palate.data.measures.pairs import Measures, measure, said
from palate.data.measures.similarity import near_duplicates
from palate.data.messages import excerpt
from palate.data.parallel import ordered_map
from palate.data.rows import Reading
from palate.records import Dropped, LabelledCompletion, Messages, PreferencePair, Record, TokenCounter
from palate.stats import Interval, wilson

_MANY = 10


def inspect_dataset(
    dataset: DatasetSpec,
    *,
    dataset_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    subset: str | None = None,
    max_samples: int | None = None,
    reading: Reading | None = None,
    count_tokens: TokenCounter | None = None,
    render: Callable[[Messages], str] | None = None,
    cutoff_len: int = 2048,
    against: DatasetSpec | None = None,
    workers: int = 1,
    samples: int = 5,
) -> Inspection:
    """Looks at a dataset as a whole and at every row of it.

    Args:
        dataset, dataset_dir, columns, split, subset, max_samples, reading: as in `load_records`.
        count_tokens: counts tokens as the model's tokenizer does; without it lengths are in characters only.
        render: a conversation as the text the model would see; without it the turns one after the other.
        cutoff_len: longest row that training would keep, in tokens.
        against: evaluation data that must not be trained on.
        workers: processes that measure; the result is the same for any number.
        samples: rows shown for each problem.
    """
    evaluation = None if against is None else evaluation_texts(against, dataset_dir)
    look = _Look(Collector(samples), evaluation, TokenLooker(count_tokens, render, cutoff_len))
    reports: list[SourceReport] = []

    def records() -> Iterator[Record]:
        for source in find_sources(dataset, dataset_dir=dataset_dir, split=split, subset=subset):
            reader: SourceReader[Record] = SourceReader(
                source, None, columns=columns, max_samples=max_samples, reading=reading
            )
            for item in reader:
                if isinstance(item, Dropped):
                    look.problems.add(item.reason, item.id, item.detail)
                else:
                    yield item
            reports.append(reader.report())

    for record, measures in ordered_map(measure, records(), workers):
        look.at(record, measures)
    return look.conclude(tuple(reports))


@dataclass(slots=True)
class _Look:
    """What is remembered of the rows seen: counts, numbers and hashes, about 1 KB a row, but never the texts."""

    problems: Collector
    evaluation: EvaluationTexts | None
    tokens: TokenLooker
    ids: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    systems: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    improvements: Counter[str] = field(default_factory=Counter)
    per_prompt: Counter[bytes] = field(default_factory=Counter)
    lengths: dict[str, array[int]] = field(default_factory=dict)
    margins: array[float] = field(default_factory=lambda: array("d"))
    overlaps: array[float] = field(default_factory=lambda: array("d"))
    signatures: list[Any] = field(default_factory=list)
    rows_by_hash: dict[bytes, str] = field(default_factory=dict)
    wins: dict[bytes, str] = field(default_factory=dict)
    chosen_of: dict[bytes, str] = field(default_factory=dict)
    rejected_of: dict[bytes, str] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)  # rows named already, which are no news as near-duplicates
    label_order: list[bool] = field(default_factory=list)
    sample: PromptSample = field(default_factory=PromptSample)

    def at(self, record: Record, measures: Measures) -> None:
        """Takes note of one record."""
        self.kinds[KIND_NAMES[type(record)]] += 1
        self.languages[measures.language] += 1
        self.turns[measures.turns] += 1
        if measures.system:
            self.systems[excerpt(measures.system, 80)] += 1
        self.per_prompt[measures.prompt_hash] += 1
        self.sample.add(measures.prompt_hash, record.prompt[-1].content if record.prompt else "")
        self._note("prompt", sum(len(message.content) for message in record.prompt))
        names = ("chosen", "rejected") if measures.pair else ("completion",) * len(measures.characters)
        for name, length in zip(names, measures.characters, strict=True):
            self._note(name, length)
        self._same_row(record, measures)
        self._content(record, measures)
        if isinstance(record, PreferencePair):
            self._pair(record, measures)
        if isinstance(record, LabelledCompletion):
            self._label(record, measures)
        self.tokens.add(record)

    def conclude(self, reports: tuple[SourceReport, ...]) -> Inspection:
        """The inspection, once every row was seen."""
        self._near_duplicates()
        for row_hash, count in self.per_prompt.items():
            if count > _MANY:
                self.problems.add("many_per_prompt", self.wins.get(row_hash, ""), f"{count} rows", count)
        longer = self._longer_is_chosen()
        first = self._first_won(reports)
        self._label_blocks()
        rows = sum(report.rows_read for report in reports)
        clusters = prompt_clusters(self.sample.texts())
        tokens = self.tokens.lengths()
        for row_id in self.tokens.over():
            self.problems.add("cut", row_id, f"longer than {tokens.cutoff_len if tokens else 0} tokens")
        return Inspection(
            sources=reports,
            rows=rows,
            records=len(self.ids),
            kinds=dict(self.kinds),
            prompts=len(self.per_prompt),
            languages=dict(self.languages.most_common()),
            turns=dict(sorted(self.turns.items())),
            systems=dict(self.systems.most_common(5)),
            different_systems=len(self.systems),
            characters={name: spread for name, data in self.lengths.items() if (spread := Spread.of(data)) is not None},
            longer_is_chosen=longer,
            first_won=first,
            labels=dict(self.labels),
            margins=Spread.of(self.margins),
            overlap=Spread.of(self.overlaps),
            tokens=tokens,
            improvements=dict(self.improvements.most_common()),
            clusters=clusters,
            gaps=tuple(gaps(self.improvements, clusters)),
            problems=self.problems.problems(rows),
        )

    def _note(self, name: str, length: int) -> None:
        self.lengths.setdefault(name, array("L")).append(length)

    def _same_row(self, record: Record, measures: Measures) -> None:
        key = b"".join((measures.prompt_hash, *measures.completion_hashes))
        if isinstance(record, LabelledCompletion):
            key += bytes([record.desirable])
        earlier = self.rows_by_hash.setdefault(key, record.id)
        if earlier != record.id:
            self.problems.add("duplicate", record.id, f"as {earlier}")
            self.told.add(len(self.ids))
        self.ids.append(record.id)
        self.signatures.append(measures.signature)

    def _content(self, record: Record, measures: Measures) -> None:
        keys = [finding for finding in measures.private if finding.kind == "key"]
        others = [finding for finding in measures.private if finding.kind != "key"]
        for name, found in (("secret", keys), ("personal_data", others)):
            if found:
                seen = ", ".join(f"{finding.kind} {finding.masked}" for finding in found[:3])
                self.problems.add(name, record.id, seen)
        sides = ("toxic_chosen", "toxic_rejected") if measures.pair else ("toxic_chosen",) * len(measures.toxic)
        for name, words in dict(zip(sides, measures.toxic, strict=True)).items():
            if words:
                self.problems.add(name, record.id, ", ".join(words[:3]))
        if self.evaluation is not None:
            leak = self.evaluation.find(said(record.prompt[-1:]))
            if leak is not None:
                self.problems.add("leak", record.id, f"{leak.how} as {leak.where}")

    def _pair(self, record: PreferencePair, measures: Measures) -> None:
        pair = measures.pair
        if pair is None:
            return
        self.overlaps.append(pair.overlap)
        self.improvements[pair.improvement] += 1
        chosen, rejected = excerpt(said(record.chosen), 40), excerpt(said(record.rejected), 40)
        both = f"{chosen!r} over {rejected!r}"
        found = {
            "formatting_only": pair.formatting_only,
            "length_only": pair.length_only,
            "off_topic": pair.off_topic,
            "near_equal": pair.overlap >= 0.9 and not (pair.formatting_only or pair.length_only),
            "both_refuse": all(measures.refusals),
            "language_differs": "und" not in measures.languages and len(set(measures.languages)) > 1,
        }
        for name in (name for name, holds in found.items() if holds):
            self.problems.add(name, record.id, both)
        if record.margin is not None:
            self.margins.append(record.margin)
            if record.margin <= 0:
                self.problems.add("equal_scores" if record.margin == 0 else "reversed_scores", record.id, both)
        self._contradictions(record, measures, both)

    def _contradictions(self, record: PreferencePair, measures: Measures, both: str) -> None:
        prompt, (best, worst) = measures.prompt_hash, measures.completion_hashes
        earlier = self.wins.get(prompt + worst + best)
        if earlier is not None:
            self.problems.add("contradiction", record.id, f"{both}, against {earlier}")
            self.told.add(len(self.ids) - 1)
        self.wins.setdefault(prompt + best + worst, record.id)
        self.wins.setdefault(prompt, record.id)
        against = self.rejected_of.get(prompt + best) or self.chosen_of.get(prompt + worst)
        if against is not None and earlier is None:
            self.problems.add("inconsistent", record.id, f"against {against}")
        self.chosen_of.setdefault(prompt + best, record.id)
        self.rejected_of.setdefault(prompt + worst, record.id)

    def _label(self, record: LabelledCompletion, measures: Measures) -> None:
        self.labels["desirable" if record.desirable else "undesirable"] += 1
        self.label_order.append(record.desirable)
        key = measures.prompt_hash + measures.completion_hashes[0]
        earlier = self.wins.get(key + bytes([not record.desirable]))
        if earlier is not None:
            self.problems.add("contradiction", record.id, f"against {earlier}")
        self.wins.setdefault(key + bytes([record.desirable]), record.id)
        self.wins.setdefault(measures.prompt_hash, record.id)

    def _near_duplicates(self) -> None:
        if not self.signatures:
            return
        for index, first in enumerate(near_duplicates(np.stack(self.signatures))):
            if first != index and index not in self.told:
                self.problems.add("near_duplicate", self.ids[index], f"like {self.ids[first]}")

    def _longer_is_chosen(self) -> Interval | None:
        chosen, rejected = (np.asarray(self.lengths.get(name, ()), dtype=np.int64) for name in ("chosen", "rejected"))
        longer, of = int((chosen > rejected).sum()), int((chosen != rejected).sum())
        if not of:
            return None
        found = wilson(longer, of)
        if found.low > 0.6:
            self.problems.add(
                "length_bias", "all", f"{found.estimate:.0%} ({found.low:.0%} … {found.high:.0%})", longer
            )
        return found

    def _first_won(self, reports: Sequence[SourceReport]) -> Interval | None:
        first, second = (sum(report.notices.get(name, 0) for report in reports) for name in ("first_won", "second_won"))
        if not first + second:
            return None
        found = wilson(first, first + second)
        if not found.low <= 0.5 <= found.high and abs(found.estimate - 0.5) > 0.05:
            detail = f"the first answer won {found.estimate:.0%} ({found.low:.0%} … {found.high:.0%})"
            self.problems.add("position_bias", "all", detail, max(first, second))
        return found

    def _label_blocks(self) -> None:
        """Wald and Wolfowitz's test: far fewer runs of equal labels than chance would give."""
        yes, n = sum(self.label_order), len(self.label_order)
        no = n - yes
        if min(yes, no) < 10:
            return
        runs = 1 + sum(left != right for left, right in zip(self.label_order, self.label_order[1:]))
        expected = 1 + 2 * yes * no / n
        deviation = ((expected - 1) * (expected - 2) / (n - 1)) ** 0.5
        if (runs - expected) / deviation < -4:
            self.problems.add("sorted_labels", "all", f"{runs} runs where {expected:.0f} would be usual", n)
