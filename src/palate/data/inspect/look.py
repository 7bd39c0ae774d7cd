"""One pass over a dataset that looks at every row, and the checks that need all rows together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from palate.data.formats.source_labels import check_labels_used
from palate.data.held_out import evaluation_texts
from palate.data.inspect.coverage import FEWEST_JUDGED, PromptSample, gaps, prompt_clusters
from palate.data.inspect.glance import Glance, Glancer
from palate.data.inspect.inspection import Inspection, Spread
from palate.data.inspect.problems import Collector
from palate.data.inspect.repeats import PAIR, contradictions, crowded_prompts, duplicates, inconsistencies
from palate.data.inspect.row_ids import RowIds
from palate.data.inspect.shown import shown_rows
from palate.data.inspect.tokens import TokenLooker
from palate.data.load import SourceReader, SourceReport
from palate.data.measures.privacy import hide_private
from palate.data.measures.similarity import near_duplicates
from palate.data.parallel import ordered_chunks
from palate.data.sources.spec import find_sources
from palate.records import DatasetRequest, DatasetSpec, Dropped, Messages, Record, TokenCounter
from palate.stats import Interval, rate_interval, wilson

_MANY = 10


def inspect_dataset(
    dataset: DatasetSpec | DatasetRequest,
    *,
    count_tokens: TokenCounter | None = None,
    render: Callable[[Messages], str] | None = None,
    cutoff_len: int = 2048,
    against: DatasetSpec | None = None,
    workers: int = 1,
    samples: int = 5,
    rows: int = 0,
) -> Inspection:
    """Looks at a dataset as a whole and at every row of it.

    Args:
        dataset: by name or as a request.
        count_tokens: counts tokens as the model's tokenizer does; without it lengths are in characters only.
        render: a conversation as the text the model would see; without it the turns one after the other.
        cutoff_len: longest row that training would keep, in tokens.
        against: evaluation data that must not be trained on.
        workers: processes that measure; the result is the same for any number.
        samples: rows shown for each problem.
        rows: keep the texts of so many first rows, and of the rows shown for problems, for a page; read again.
    """
    request = DatasetRequest.of(dataset)
    evaluation = None if against is None else evaluation_texts(DatasetRequest(against, request.dataset_dir))
    look = _Look(Glance(Collector(samples)), TokenLooker(count_tokens, render, cutoff_len))
    reports: list[SourceReport] = []

    def read() -> Iterator[SourceReader[Record]]:
        for source in find_sources(request):
            yield SourceReader(source, None, request)

    def records() -> Iterator[Record]:
        for reader in read():
            for item in reader:
                if isinstance(item, Dropped):
                    look.all.problems.add(item.reason, item.id, hide_private(item.detail))
                else:
                    yield item
            reports.append(reader.report())

    for chunk, glance in ordered_chunks(Glancer(samples, evaluation), records(), workers):
        look.take(chunk, glance)
    check_labels_used(reports, request.labels)
    found = look.conclude(tuple(reports))
    return replace(found, shown=shown_rows(read(), found.problems, rows)) if rows else found


@dataclass(slots=True)
class _Look:
    """All rows seen so far; of none of them the text."""

    all: Glance
    tokens: TokenLooker
    ids: RowIds = field(default_factory=RowIds)
    sample: PromptSample = field(default_factory=PromptSample)

    def take(self, records: Sequence[Record], glance: Glance) -> None:
        """Adds the next rows and what was seen of them."""
        for record, prompt_hash, spaced in zip(records, glance.hashes.prompt, glance.spaced, strict=True):
            self.ids.append(record.id)
            if spaced:
                self.sample.add(prompt_hash, record.prompt[-1].content if record.prompt else "")
            self.tokens.add(record)
        self.all.absorb(glance)

    def conclude(self, reports: tuple[SourceReport, ...]) -> Inspection:
        """The inspection, once every row was seen."""
        seen = self.all
        self._repeats()
        longer = self._longer_is_chosen()
        first = self._first_won(reports)
        self._label_blocks()
        rows = sum(report.rows_read for report in reports)
        clusters = prompt_clusters(self.sample.texts())
        tokens = self.tokens.lengths()
        for row_id in self.tokens.over():
            seen.problems.add("cut", row_id, f"longer than {tokens.cutoff_len if tokens else 0} tokens")
        judged = sum(seen.improvements.values())
        lengths = {name: Spread.of(data) for name, data in seen.lengths.items()}
        return Inspection(
            sources=reports,
            rows=rows,
            records=len(self.ids),
            kinds=dict(seen.kinds),
            prompts=len(np.unique(np.frombuffer(seen.hashes.prompt, dtype=np.uint64))),
            languages=dict(seen.languages.most_common()),
            turns=dict(sorted(seen.turns.items())),
            systems=dict(seen.systems.most_common(5)),
            different_systems=len(np.unique(np.frombuffer(seen.system_hashes, dtype=np.uint64))),
            characters={name: spread for name, spread in lengths.items() if spread is not None},
            longer_is_chosen=longer,
            first_won=first,
            labels=dict(seen.labels),
            margins=Spread.of(seen.margins),
            overlap=Spread.of(seen.overlaps),
            tokens=tokens,
            improvements=dict(seen.improvements.most_common()) if judged >= FEWEST_JUDGED else {},
            clusters=clusters,
            gaps=tuple(gaps(seen.improvements, clusters)),
            problems=seen.problems.problems(rows),
        )

    def _repeats(self) -> None:
        """Rows that repeat or contradict earlier ones; one that was named already is no news as a near-duplicate."""
        hashes, problems = self.all.hashes, self.all.problems
        row = np.arange(len(self.ids))
        same, against = duplicates(hashes), contradictions(hashes)
        near = np.array(near_duplicates(np.frombuffer(self.all.signatures, dtype=np.uint8)), dtype=np.int64)
        told = (same != row) | (against >= 0)
        for name, found, other, how in (
            ("duplicate", same != row, same, "as"),
            ("contradiction", against >= 0, against, "against"),
            ("inconsistent", (against < 0) & (inconsistencies(hashes) >= 0), inconsistencies(hashes), "against"),
            ("near_duplicate", (near != row) & ~told, near, "like"),
        ):
            for index in map(int, np.flatnonzero(found)):
                problems.add(name, self.ids[index], f"{how} {self.ids[int(other[index])]}")
        for first, count in crowded_prompts(hashes, _MANY):
            problems.add("many_per_prompt", self.ids[first], f"{count} rows", count)

    def _longer_is_chosen(self) -> Interval | None:
        lengths = self.all.lengths
        chosen, rejected = (np.asarray(lengths.get(name, ()), dtype=np.int64) for name in ("chosen", "rejected"))
        prompts = np.frombuffer(self.all.hashes.prompt, dtype=np.uint64)
        prompts = prompts[np.frombuffer(self.all.hashes.kind, dtype=np.uint8) == PAIR]
        differ = chosen != rejected
        if not differ.any():
            return None
        won = chosen[differ] > rejected[differ]
        found, longer = rate_interval(won, clusters=prompts[differ].tolist()), int(won.sum())
        if found.low > 0.6:
            self.all.problems.add(
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
            self.all.problems.add("position_bias", "all", detail, max(first, second))
        return found

    def _label_blocks(self) -> None:
        """Wald and Wolfowitz's test: far fewer runs of equal labels than chance would give."""
        yes, n = sum(self.all.label_order), len(self.all.label_order)
        no = n - yes
        if min(yes, no) < 10:
            return
        runs = 1 + sum(left != right for left, right in zip(self.all.label_order, self.all.label_order[1:]))
        expected = 1 + 2 * yes * no / n
        deviation = ((expected - 1) * (expected - 2) / (n - 1)) ** 0.5
        if (runs - expected) / deviation < -4:
            self.all.problems.add("sorted_labels", "all", f"{runs} runs where {expected:.0f} would be usual", n)
