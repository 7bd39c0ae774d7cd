"""Rules on single rows: length, difference, wording, language, safety."""

# ruff: noqa: ARG002  (all rules have one signature, whether they use it or not)

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import ClassVar, Literal

from pydantic import Field
from rapidfuzz.distance import Indel

from palate.data.curate.base import RowRule
from palate.data.measures.pairs import Measures
from palate.data.measures.safety import TOXIC_LANGUAGES
from palate.data.measures.words import NO_SPACES, STOP_WORDS
from palate.records import PreferencePair, Record

Sides = Literal["chosen", "rejected", "both", "any"]

WEAK_PHRASES = (
    "i think", "i guess", "i believe", "i suppose", "i'm not sure", "i am not sure", "not really sure", "i don't know",
    "i do not know", "i have no idea", "maybe", "perhaps", "possibly", "probably", "sort of", "kind of", "it depends",
    "hard to say", "as an ai", "as a language model",
)  # fmt: skip


class MinLength(RowRule):
    """Every answer has more characters than this."""

    characters: int = Field(60, ge=0, description="an answer must be longer than this")

    def fails(self, record: Record, measures: Measures) -> str:
        shortest = min(measures.lengths, default=0)
        return f"an answer has {shortest} characters" if shortest <= self.characters else ""


class MaxLength(RowRule):
    """No answer has more characters than this."""

    characters: int = Field(8000, ge=1, description="no answer may be longer than this")

    def fails(self, record: Record, measures: Measures) -> str:
        longest = max(measures.lengths, default=0)
        return f"an answer has {longest} characters" if longest > self.characters else ""


class LengthDifference(RowRule):
    """The lengths of the answers differ by at least this."""

    characters: int = Field(10, ge=0, description="least difference in characters")

    def fails(self, record: Record, measures: Measures) -> str:
        gap = max(measures.lengths, default=0) - min(measures.lengths, default=0)
        return f"lengths differ by {gap} characters" if gap < self.characters else ""


class LengthRatio(RowRule):
    """The longer answer is at most this many times as long as the shorter one."""

    largest: float = Field(4.0, ge=1, description="length of the longest over the shortest answer, in characters")

    def fails(self, record: Record, measures: Measures) -> str:
        shortest, longest = min(measures.lengths, default=0), max(measures.lengths, default=0)
        ratio = longest / max(1, shortest)
        return f"one answer is {ratio:.1f} times as long" if ratio > self.largest else ""


class EditDifference(RowRule):
    """The answers differ in at least this share of their words."""

    smallest: float = Field(0.4, ge=0, le=1, description="share of words outside the longest common subsequence")
    words: int = Field(300, ge=1, description="words of each answer that are compared")

    def fails(self, record: Record, measures: Measures) -> str:
        if not isinstance(record, PreferencePair):
            return ""
        left, right = (answer.words[: self.words] for answer in measures.answers)
        difference = Indel.normalized_distance(left, right)
        return f"{difference:.0%} of the words differ" if difference < self.smallest else ""


class VectorDifference(RowRule):
    """The counts of character trigrams differ between the answers: 1 − cosine is at least this."""

    smallest: float = Field(0.2, ge=0, le=1, description="1 − cosine of the trigram counts")

    def fails(self, record: Record, measures: Measures) -> str:
        if not isinstance(record, PreferencePair):
            return ""
        left, right = (_trigrams(answer.text) for answer in measures.answers)
        dot = sum(count * right[gram] for gram, count in left.items())
        norms = math.sqrt(sum(c * c for c in left.values())) * math.sqrt(sum(c * c for c in right.values()))
        difference = 1 - dot / norms if norms else 1.0
        return f"1 − cosine is {difference:.2f}" if difference < self.smallest else ""


class Overlap(RowRule):
    """The answers have few words in common."""

    largest: float = Field(0.5, ge=0, le=1, description="Jaccard similarity of the sets of words")

    def fails(self, record: Record, measures: Measures) -> str:
        pair = measures.pair
        return f"word overlap {pair.overlap:.2f}" if pair is not None and pair.overlap > self.largest else ""


class StopWords(RowRule):
    """The share of stop words in the chosen answer is in the range of normal prose. English only.

    These limits do not fit other languages, whose lists are shorter and whose words are inflected more.
    """

    languages: ClassVar[tuple[str, ...]] = ("en",)
    smallest: float = Field(0.2, ge=0, le=1, description="least share of stop words")
    largest: float = Field(0.7, ge=0, le=1, description="largest share of stop words")

    def fails(self, record: Record, measures: Measures) -> str:
        if not measures.answers or self.cannot_judge(measures):
            return ""
        chosen = measures.answers[0]
        if chosen.language != "en" or not chosen.words:
            return ""
        share = sum(word in STOP_WORDS["en"] for word in chosen.words) / len(chosen.words)
        if self.smallest <= share <= self.largest:
            return ""
        return f"{share:.0%} of the words of the chosen answer are stop words"


class MoreNounsAndVerbs(RowRule):
    """The chosen answer has more nouns and verbs than the rejected one. English only; needs textblob."""

    languages: ClassVar[tuple[str, ...]] = ("en",)
    more: int = Field(1, ge=0, description="least difference")

    def off(self) -> str:
        return "" if find_spec("textblob") else "off: needs textblob; pip install 'palate[nouns]'"

    def fails(self, record: Record, measures: Measures) -> str:
        if not isinstance(record, PreferencePair) or self.cannot_judge(measures):
            return ""
        chosen, rejected = (nouns_and_verbs(answer.text) for answer in measures.answers)
        return f"{chosen} nouns and verbs against {rejected}" if chosen - rejected < self.more else ""


class WeakPhrases(RowRule):
    """The chosen answer has none of these phrases; the default list is English."""

    languages: ClassVar[tuple[str, ...]] = ("en",)
    phrases: tuple[str, ...] = Field(WEAK_PHRASES, description="matched as whole words, ignoring case")

    def fails(self, record: Record, measures: Measures) -> str:
        text = _folded(measures.answers[0].text) if measures.answers else ""
        contained = (phrase for phrase in self.phrases if _folded(phrase) in text)
        found = next((phrase for phrase in contained if _whole_words(_folded(phrase)).search(text)), None)
        return f"says {found!r}" if found is not None else ""

    def cannot_judge(self, measures: Measures) -> bool:
        return self.phrases == WEAK_PHRASES and super().cannot_judge(measures)


class Languages(RowRule):
    """Prompt and chosen answer are in one of these languages."""

    keep: tuple[str, ...] = Field(("en",), description="ISO 639-1 codes")
    unknown: bool = Field(True, description="keep rows whose language is unknown")

    def fails(self, record: Record, measures: Measures) -> str:
        keep = {*self.keep, *(("und",) if self.unknown else ())}
        languages = (measures.language, *(answer.language for answer in measures.answers[:1]))
        found = next((name for name in languages if name not in keep), None)
        return f"in {found}" if found is not None else ""


class SameLanguage(RowRule):
    """All answers are in one language."""

    def fails(self, record: Record, measures: Measures) -> str:
        known = sorted({answer.language for answer in measures.answers} - {"und"})
        return f"answers in {' and '.join(known)}" if len(known) > 1 else ""


class FormattingOnly(RowRule):
    """The answers differ in more than formatting."""

    def fails(self, record: Record, measures: Measures) -> str:
        return "the same words in both answers" if measures.pair is not None and measures.pair.formatting_only else ""


class LengthOnly(RowRule):
    """The answers differ in more than length: neither is the other one, truncated or repeated."""

    def fails(self, record: Record, measures: Measures) -> str:
        same = measures.pair is not None and measures.pair.length_only
        return "one answer is the other one, truncated or repeated" if same else ""


class OffTopic(RowRule):
    """The rejected answer is on topic."""

    def fails(self, record: Record, measures: Measures) -> str:
        return "the rejected answer is about something else" if measures.pair and measures.pair.off_topic else ""


class Refusals(RowRule):
    """Not all answers decline (or with `side`: chosen, rejected, any). English only."""

    languages: ClassVar[tuple[str, ...]] = ("en",)
    side: Sides = Field("both", description="answers that must not decline: both at once, chosen, rejected or any")

    def fails(self, record: Record, measures: Measures) -> str:
        return f"declines ({self.side})" if _on(self.side, [answer.refuses for answer in measures.answers]) else ""


class Toxicity(RowRule):
    """The chosen answer (or with `side` another one) has no insult, slur or threat of the word list."""

    languages: ClassVar[tuple[str, ...]] = TOXIC_LANGUAGES
    side: Sides = Field("chosen", description="answers to check: chosen, rejected, any, or both at once")

    def fails(self, record: Record, measures: Measures) -> str:
        if not _on(self.side, [bool(answer.toxic) for answer in measures.answers]):
            return ""
        return ", ".join([word for answer in measures.answers for word in answer.toxic][:3])


class PersonalData(RowRule):
    """No personal data and no secret anywhere in the row."""

    kinds: tuple[str, ...] = Field(
        ("key", "email", "phone", "iban", "card", "ssn", "ip"), description="kinds to search for"
    )

    def fails(self, record: Record, measures: Measures) -> str:
        found = [f"{finding.kind} {finding.masked}" for finding in measures.private if finding.kind in self.kinds]
        return ", ".join(found[:3])


class Margin(RowRule):
    """The stated margin is at least this."""

    smallest: float = Field(0.5, description="in the source's own units")
    without: bool = Field(True, description="keep rows that state no margin")

    def fails(self, record: Record, measures: Measures) -> str:
        if not isinstance(record, PreferencePair):
            return ""
        if record.margin is None:
            return "" if self.without else "no margin"
        return f"margin {record.margin:g}" if record.margin < self.smallest else ""


def _on(side: str, flags: Sequence[bool]) -> bool:
    """Whether the answers' flags (chosen first) are true for `side`."""
    if not flags:
        return False
    return {"chosen": flags[0], "rejected": flags[-1], "both": all(flags), "any": any(flags)}[side]


def _folded(text: str) -> str:
    return text.casefold().replace("’", "'")


@lru_cache(maxsize=1024)
def _whole_words(phrase: str) -> re.Pattern[str]:
    """A pattern for the phrase as whole words; scripts without spaces between words match anywhere."""
    before, after = (
        "" if NO_SPACES.match(end) or not re.match(r"\w", end) else r"\w" for end in (phrase[:1], phrase[-1:])
    )
    return re.compile((f"(?<!{before})" if before else "") + re.escape(phrase) + (f"(?!{after})" if after else ""))


def nouns_and_verbs(text: str) -> int:
    """Number of nouns and verbs in an English text."""
    from textblob.en.taggers import PatternTagger

    return sum(tag.startswith(("NN", "VB")) for _, tag in PatternTagger().tag(text))


def _trigrams(text: str) -> Counter[str]:
    text = " ".join(text.lower().split())
    return Counter(text[start : start + 3] for start in range(max(1, len(text) - 2)))


ROW_RULES: tuple[type[RowRule], ...] = (
    MinLength, MaxLength, LengthDifference, LengthRatio, EditDifference, VectorDifference, Overlap, StopWords,
    MoreNounsAndVerbs, WeakPhrases, Languages, SameLanguage, FormattingOnly, LengthOnly, OffTopic, Refusals, Toxicity,
    PersonalData, Margin,
)  # fmt: skip
