"""What can be measured of one record without looking at any other: lengths, languages, differences, findings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.data.measures.language import STOP_WORDS, language
from palate.data.measures.privacy import Finding, find_private
from palate.data.measures.similarity import Signature, overlap, signature, tokens
from palate.data.measures.toxicity import toxic_words
from palate.data.split import plain_text, prompt_key
from palate.records import AnyRecord, Messages, PreferencePair, Record, completions_of

Improvement: TypeAlias = Literal["safety", "accuracy", "helpfulness", "format", "length", "style"]
IMPROVEMENTS: tuple[Improvement, ...] = ("accuracy", "helpfulness", "safety", "style", "format", "length")

_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:very |really |so )?(?:sorry|afraid|unable|not able|not comfortable)"
    r"|i (?:can(?:no|['’])t|can not|won['’]t|will not|must decline|refuse)\b.{0,60}"
    r"(?:help|assist|provide|answer|do that|comply|discuss|create|write|give|support|engage|share|encourage)"
    r"|as an? (?:ai|language model|artificial))",
    re.IGNORECASE,
)
_LIST_MARK = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|cannot|n['’]t|nicht|kein\w*|pas|ne|non|sin|nunca)\b|n['’]t\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """How the two answers of a pair differ.

    Attributes:
        overlap: Jaccard similarity of their sets of words, 0 … 1.
        formatting_only: the same words in the same order, marks and case aside.
        length_only: one is the other cut short, or with its own sentences again.
        off_topic: the rejected answer shares no word of content with the prompt or with the chosen one.
        improvement: what seems to make chosen better, by simple signs.
    """

    overlap: float
    formatting_only: bool
    length_only: bool
    off_topic: bool
    improvement: Improvement


@dataclass(frozen=True, slots=True)
class Measures:
    """One record measured.

    Attributes:
        id, source: the record's.
        turns: messages of the prompt.
        system: the prompt's system text, "" for none.
        characters: per completion its length.
        words: per completion its number of words.
        language: of the prompt; of the whole record where the prompt is too short to tell.
        languages: per completion.
        refusals: per completion whether it declines.
        private: what looks like personal data or a secret anywhere in the record.
        toxic: per completion the words of the list.
        stop_words: per completion the share of small words, 0 … 1; None where the language has no list.
        pair: the comparison, for pairs.
        prompt_hash, completion_hashes: 8 bytes each of the normalised texts.
        signature: MinHash of the last question and the answers.
    """

    id: str
    source: str
    turns: int
    system: str
    characters: tuple[int, ...]
    words: tuple[int, ...]
    language: str
    languages: tuple[str, ...]
    refusals: tuple[bool, ...]
    private: tuple[Finding, ...]
    toxic: tuple[tuple[str, ...], ...]
    stop_words: tuple[float | None, ...]
    pair: PairMeasures | None
    prompt_hash: bytes
    completion_hashes: tuple[bytes, ...]
    signature: Signature


def said(messages: Messages) -> str:
    """The texts of a conversation, one a paragraph."""
    return "\n\n".join(message.content for message in messages)


def measure(record: Record) -> Measures:
    """Everything that is measured of one record."""
    answers = [said(completion) for completion in completions(record)]
    asked = said(record.prompt)
    words = [tokens(answer) for answer in answers]
    language_of_prompt = language(asked)
    languages = tuple(language(answer) for answer in answers)
    whole = "\n".join((asked, *answers))
    return Measures(
        id=record.id,
        source=record.source,
        turns=len(record.prompt),
        system=record.prompt[0].content if record.prompt and record.prompt[0].role == "system" else "",
        characters=tuple(len(answer) for answer in answers),
        words=tuple(len(found) for found in words),
        language=language_of_prompt if language_of_prompt != "und" else language(whole),
        languages=languages,
        refusals=tuple(refuses(answer) for answer in answers),
        private=tuple(find_private(whole)),
        toxic=tuple(tuple(toxic_words(*pair)) for pair in zip(answers, words, strict=True)),
        stop_words=tuple(stop_word_share(found, name) for found, name in zip(words, languages, strict=True)),
        pair=_compare(record, asked, answers, words, languages) if isinstance(record, PreferencePair) else None,
        prompt_hash=text_hash(prompt_key(record.prompt)),
        completion_hashes=tuple(text_hash(plain_text(answer)) for answer in answers),
        signature=signature("\n".join((record.prompt[-1].content if record.prompt else "", *answers))),
    )


def refuses(answer: str) -> bool:
    """Whether an answer declines within its first 200 characters."""
    return bool(_REFUSAL.search(answer[:200]))


def stop_word_share(words: Sequence[str], name: str) -> float | None:
    """The share of small words of the language, 0 … 1; None without a list or without words."""
    known = STOP_WORDS.get(name)
    return sum(word in known for word in words) / len(words) if known and words else None


def text_hash(text: str) -> bytes:
    """8 bytes that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def completions(record: Record) -> tuple[Messages, ...]:
    """The K completions of any record; none of a prompt alone."""
    if isinstance(record, AnyRecord):
        return completions_of(record)
    # Rated answers have the field too, but no order.
    return tuple(getattr(record, "completions", ()))


def _compare(
    record: PreferencePair,
    asked: str,
    answers: Sequence[str],
    words: Sequence[Sequence[str]],
    languages: Sequence[str],
) -> PairMeasures:
    chosen, rejected = set(words[0]), set(words[1])
    shared = overlap(chosen, rejected)
    formatting_only = shared > 0.8 and _same_but_marked(answers)
    length_only = not formatting_only and _same_but_longer(words[0], words[1], answers)
    # Of two languages no word is shared, whatever they say.
    comparable = len({name for name in languages if name != "und"}) < 2 and not refuses(answers[1])
    off_topic = shared < 0.1 and comparable and _off_topic(tokens(asked), chosen, rejected)
    toxic = [bool(toxic_words(*side)) for side in zip(answers, words, strict=True)]
    improvement: Improvement
    if formatting_only or length_only:
        improvement = "format" if formatting_only else "length"
    else:
        improvement = _improvement(record, answers, toxic, shared, off_topic)
    return PairMeasures(shared, formatting_only, length_only, off_topic, improvement)


def _same_but_marked(answers: Sequence[str]) -> bool:
    """Whether the words are the same once list marks and numbers of list items are gone."""
    bare = [tokens(_LIST_MARK.sub("", answer)) for answer in answers]
    return bool(bare[0]) and bare[0] == bare[1]


def _same_but_longer(left: Sequence[str], right: Sequence[str], answers: Sequence[str]) -> bool:
    """Whether the shorter is how the longer begins, or the longer says the shorter's sentences again."""
    short, long = sorted((left, right), key=len)
    if not short or len(short) == len(long):
        return False
    # The last word of a text that was cut may be half a word.
    *whole, last = short
    if list(long[: len(whole)]) == whole and long[len(whole)].startswith(last):
        return True
    if set(short) != set(long):
        return False
    sentences = [{part for part in _SENTENCE_END.split(plain_text(answer)) if len(part) > 3} for answer in answers]
    return bool(sentences[0]) and sentences[0] == sentences[1]


_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")
_SMALL_WORDS = frozenset().union(*STOP_WORDS.values())


def _off_topic(asked: Sequence[str], chosen: set[str], rejected: set[str]) -> bool:
    """No word of content in common with prompt and chosen, though chosen has some with the prompt."""
    topic, instead = _content(asked), _content(rejected)
    known = topic | _content(chosen)
    return len(topic) >= 3 and len(instead) >= 8 and bool(topic & _content(chosen)) and not instead & known


def _content(words: Sequence[str] | set[str]) -> set[str]:
    """Words that say what a text is about, cut to five letters so that their endings do not matter."""
    return {word[:5] for word in words if word not in _SMALL_WORDS and (len(word) > 3 or not word.isascii())}


def _improvement(
    record: PreferencePair, answers: Sequence[str], toxic: Sequence[bool], shared: float, off_topic: bool
) -> Improvement:
    """The row's own dimensions if it has them, else signs: refusals and insults, changed facts, more said."""
    if record.dimensions:
        widest = max(record.dimensions, key=lambda name: _gap(record, name)).lower()
        if any(sign in widest for sign in ("safe", "harm", "tox")):
            return "safety"
        if any(sign in widest for sign in ("accura", "truth", "honest", "correct", "fact")):
            return "accuracy"
        if any(sign in widest for sign in ("help", "instruct", "relevan", "complete")):
            return "helpfulness"
        return "style"
    chosen, rejected = answers
    if refuses(chosen) != refuses(rejected) or toxic[0] != toxic[1]:
        return "safety"
    facts = set(_NUMBER.findall(chosen)) != set(_NUMBER.findall(rejected))
    denies = bool(_NEGATION.search(chosen[:120])) != bool(_NEGATION.search(rejected[:120]))
    if shared > 0.3 and (facts or denies):
        return "accuracy"
    if off_topic or len(chosen) > 1.3 * len(rejected):
        return "helpfulness"
    return "style"


def _gap(record: PreferencePair, name: str) -> float:
    chosen, rejected = (record.dimensions or {})[name]
    return chosen - rejected
