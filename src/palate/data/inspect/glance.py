"""What a few hundred rows say, each looked at alone: what a process hands back, and what all of it adds up to."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.data.formats.kinds import KIND_NAMES
from palate.data.inspect.problems import Collector
from palate.data.inspect.repeats import LABELLED, OTHER, PAIR, RowHashes
from palate.data.measures.language import STOP_WORDS
from palate.data.measures.leaks import EvaluationTexts
from palate.data.measures.pairs import JUDGED, Measures, measure, said, text_hash
from palate.data.measures.privacy import hide_private
from palate.data.turns.messages import excerpt
from palate.records import LabelledCompletion, PreferencePair, Record

_MOST_SYSTEMS = 1000


@dataclass(slots=True)
class Glance:
    """Counts, numbers and hashes of rows, never their texts: about 200 bytes a row of which 128 are the signature.

    `spaced` says of each row whether its prompt is in a language whose small words are known, so that its other words
    say what it is about; `improvements` counts pairs in languages with all word lists alone.
    """

    problems: Collector
    kinds: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    systems: Counter[str] = field(default_factory=Counter)
    system_hashes: array[int] = field(default_factory=lambda: array("Q"))
    labels: Counter[str] = field(default_factory=Counter)
    improvements: Counter[str] = field(default_factory=Counter)
    spaced: bytearray = field(default_factory=bytearray)
    lengths: dict[str, array[int]] = field(default_factory=dict)
    margins: array[float] = field(default_factory=lambda: array("f"))
    overlaps: array[float] = field(default_factory=lambda: array("f"))
    label_order: bytearray = field(default_factory=bytearray)
    hashes: RowHashes = field(default_factory=RowHashes)
    signatures: bytearray = field(default_factory=bytearray)

    def at(self, record: Record, measures: Measures) -> None:
        """Takes note of one record."""
        self.kinds[KIND_NAMES[type(record)]] += 1
        self.languages[measures.language] += 1
        self.spaced.append(measures.language in STOP_WORDS)
        self.turns[measures.turns] += 1
        if measures.system:
            self.systems[_quoted(measures.system, 80, measures)] += 1
            self.system_hashes.append(int.from_bytes(text_hash(measures.system)))
        self._note("prompt", sum(len(message.text) for message in record.prompt))
        names = ("chosen", "rejected") if measures.pair else ("completion",) * len(measures.characters)
        for name, length in zip(names, measures.characters, strict=True):
            self._note(name, length)
        self._remember(record, measures)
        self._content(record, measures)
        if isinstance(record, PreferencePair):
            self._pair(record, measures)

    def absorb(self, later: Glance) -> None:
        """Adds what was seen of the rows that follow these."""
        self.problems.absorb(later.problems)
        self.kinds.update(later.kinds)
        self.languages.update(later.languages)
        self.turns.update(later.turns)
        for text, count in later.systems.items():
            if text in self.systems or len(self.systems) < _MOST_SYSTEMS:
                self.systems[text] += count
        self.system_hashes.extend(later.system_hashes)
        self.labels.update(later.labels)
        self.improvements.update(later.improvements)
        self.spaced += later.spaced
        for name, lengths in later.lengths.items():
            self.lengths.setdefault(name, array("I")).extend(lengths)
        self.margins.extend(later.margins)
        self.overlaps.extend(later.overlaps)
        self.label_order += later.label_order
        self.hashes.extend(later.hashes)
        self.signatures += later.signatures

    def _note(self, name: str, length: int) -> None:
        self.lengths.setdefault(name, array("I")).append(min(length, 2**32 - 1))

    def _remember(self, record: Record, measures: Measures) -> None:
        first, second, kind = int.from_bytes(b"".join(measures.completion_hashes)[:8]), 0, OTHER
        if isinstance(record, PreferencePair):
            second, kind = int.from_bytes(measures.completion_hashes[1]), PAIR
        elif isinstance(record, LabelledCompletion):
            second, kind = int(record.desirable), LABELLED
            self.labels["desirable" if record.desirable else "undesirable"] += 1
            self.label_order.append(record.desirable)
        elif len(measures.completion_hashes) > 1:
            first = int.from_bytes(text_hash(b"".join(measures.completion_hashes).hex()))
        self.hashes.append(int.from_bytes(measures.prompt_hash), first, second, kind)
        self.signatures += measures.signature.tobytes()

    def _content(self, record: Record, measures: Measures) -> None:
        if measures.private:
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

    def _pair(self, record: PreferencePair, measures: Measures) -> None:
        pair = measures.pair
        if pair is None:
            return
        self.overlaps.append(pair.overlap)
        if measures.language in JUDGED:
            self.improvements[pair.improvement] += 1
        found = []
        if pair.formatting_only:
            found.append("formatting_only")
        if pair.length_only:
            found.append("length_only")
        if pair.off_topic:
            found.append("off_topic")
        if pair.overlap >= 0.9 and not (pair.formatting_only or pair.length_only):
            found.append("near_equal")
        if all(measures.refusals):
            found.append("both_refuse")
        if "und" not in measures.languages and measures.languages[0] != measures.languages[1]:
            found.append("language_differs")
        if record.margin is not None:
            self.margins.append(record.margin)
            if record.margin <= 0:
                found.append("equal_scores" if record.margin == 0 else "reversed_scores")
        if found:
            chosen, rejected = (_quoted(said(answer), 40, measures) for answer in (record.chosen, record.rejected))
            both = f"{chosen!r} over {rejected!r}"
            for name in found:
                self.problems.add(name, record.id, both)


def _quoted(text: str, width: int, measures: Measures) -> str:
    """How a text begins, fit for a report: what is private in it is masked."""
    return excerpt(hide_private(text) if measures.private else text, width)


class Glancer:
    """Looks at a chunk of records, in whatever process: `glancer(records)` is their `Glance`."""

    def __init__(self, samples: int, evaluation: EvaluationTexts | None = None) -> None:
        """Args:
        samples: rows to name for each problem.
        evaluation: texts that must not be trained on.
        """
        self._samples = samples
        self._evaluation = evaluation

    def __call__(self, records: Sequence[Record]) -> Glance:
        glance = Glance(Collector(self._samples))
        for record in records:
            glance.at(record, measure(record))
            if self._evaluation is not None:
                leak = self._evaluation.find(said(record.prompt[-1:]))
                if leak is not None:
                    glance.problems.add("leak", record.id, f"{leak.how} as {leak.where}")
        return glance
