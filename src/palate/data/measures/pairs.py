"""What can be measured of one record without looking at any other: lengths, languages, differences, findings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.data.measures.language import STOP_WORDS, language
from palate.data.measures.privacy import Finding, find_private
from palate.data.measures.similarity import Signature, overlap, plain_signature
from palate.data.measures.toxicity import toxic_words
from palate.data.measures.words import tokens
from palate.records import AnyRecord, Messages, PreferencePair, Record, completions_of, plain_text, prompt_key

Improvement: TypeAlias = Literal["safety", "accuracy", "helpfulness", "format", "length", "style"]
IMPROVEMENTS: tuple[Improvement, ...] = ("accuracy", "helpfulness", "safety", "style", "format", "length")

_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:very |really |so )?(?:sorry|afraid|unable|not able|not comfortable)"
    r"|i (?:can(?:no|['’])t|can not|won['’]t|will not|must decline|refuse)\b.{0,60}"
    r"(?:help|assist|provide|answer|do that|comply|discuss|create|write|give|support|engage|share|encourage)"
    r"|as an? (?:ai|language model|artificial))",
    re.IGNORECASE,
)
# 抱歉 alone is also how a Chinese answer corrects itself or consoles, so what is declined has to follow.
_CANNOT_ZH = "无法|不能|不可以|没有办法|没办法|不便|不会|做不到|不具备|没有能力|不应该|拒绝"
_REFUSAL_ZH = re.compile(
    rf"(?:抱歉|对不起|不好意思|很遗憾)[^。！？!?\n]{{0,30}}(?:{_CANNOT_ZH})"
    rf"|我们?(?:{_CANNOT_ZH})(?:为您|为你|帮您|帮你|给您|给你|向您|向你)?[^。！？!?，,\n]{{0,8}}"
    r"(?:帮助|提供|回答|协助|满足|讨论|生成|撰写|支持|透露|给出|完成|执行|访问|浏览|分享|参与|鼓励)"
    rf"|作为一?[个名款位]?\s*(?:大型)?(?:人工智能|AI|语言模型|聊天机器人)[^。！？!?\n]{{0,20}}(?:{_CANNOT_ZH}|没有)"
)
JUDGED = frozenset({"en"})
"""Languages with word lists for all of insults, refusals and negation, by which `improvement` judges."""
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

    def answers_in(self, languages: Collection[str]) -> bool:
        """Whether the answers are in these languages; where none can be told, whether the prompt is."""
        known = {name for name in self.languages if name != "und"} or {self.language}
        return known.issubset(languages)


def said(messages: Messages) -> str:
    """The texts of a conversation, one a paragraph."""
    return "\n\n".join(message.text for message in messages)


def measure(record: Record) -> Measures:
    """Everything that is measured of one record."""
    asked = said(record.prompt)
    by_people = said(tuple(turn for turn in record.prompt if turn.role in ("system", "user")))
    answers = [_answer(said(completion)) for completion in completions(record)]
    whole = "\n".join((asked, *(answer.text for answer in answers)))
    language_of_prompt = language(by_people)
    question = plain_text(record.prompt[-1].content) if record.prompt else ""
    return Measures(
        id=record.id,
        source=record.source,
        turns=len(record.prompt),
        system=record.prompt[0].content if record.prompt and record.prompt[0].role == "system" else "",
        characters=tuple(len(answer.text) for answer in answers),
        words=tuple(len(answer.words) for answer in answers),
        language=language_of_prompt if language_of_prompt != "und" else language(whole),
        languages=tuple(answer.language for answer in answers),
        refusals=tuple(answer.refuses for answer in answers),
        private=tuple(find_private(whole)),
        toxic=tuple(answer.toxic for answer in answers),
        stop_words=tuple(stop_word_share(answer.words, answer.language) for answer in answers),
        pair=_compare(record, asked, *answers) if isinstance(record, PreferencePair) else None,
        prompt_hash=text_hash(prompt_key(record.prompt)),
        completion_hashes=tuple(text_hash(answer.plain) for answer in answers),
        signature=plain_signature(" ".join((question, *(answer.plain for answer in answers)))),
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """One completion, looked at once."""

    text: str
    plain: str
    words: list[str]
    language: str
    refuses: bool
    toxic: tuple[str, ...]


def _answer(text: str) -> _Answer:
    words = tokens(text)
    return _Answer(text, plain_text(text), words, language(text, words), refuses(text), tuple(toxic_words(text, words)))


def refuses(answer: str) -> bool:
    """Whether an answer declines within its first 200 characters, in English or Chinese."""
    head = answer[:200]
    return bool(_REFUSAL.search(head) or (not head.isascii() and _REFUSAL_ZH.search(head)))


def stop_word_share(words: Sequence[str], name: str) -> float | None:
    """The share of small words of the language, 0 … 1; None without a list or without words."""
    known = STOP_WORDS.get(name)
    return sum(map(known.__contains__, words)) / len(words) if known and words else None


def text_hash(text: str) -> bytes:
    """8 bytes that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def completions(record: Record) -> tuple[Messages, ...]:
    """The K completions of any record; none of a prompt alone."""
    if isinstance(record, AnyRecord):
        return completions_of(record)
    # Rated answers have the field too, but no order.
    return tuple(getattr(record, "completions", ()))


def _compare(record: PreferencePair, asked: str, chosen: _Answer, rejected: _Answer) -> PairMeasures:
    of_chosen, of_rejected = set(chosen.words), set(rejected.words)
    shared = overlap(of_chosen, of_rejected)
    formatting_only = shared > 0.8 and _same_but_marked((chosen.text, rejected.text))
    length_only = not formatting_only and _same_but_longer(chosen, rejected)
    # Of two languages no word is shared, whatever they say.
    comparable = "und" in (chosen.language, rejected.language) or chosen.language == rejected.language
    comparable = comparable and not rejected.refuses
    off_topic = shared < 0.1 and comparable and _off_topic(set(tokens(asked)), of_chosen, of_rejected)
    improvement: Improvement
    if formatting_only or length_only:
        improvement = "format" if formatting_only else "length"
    else:
        improvement = _improvement(record, chosen, rejected, shared, off_topic)
    return PairMeasures(shared, formatting_only, length_only, off_topic, improvement)


def _same_but_marked(answers: Sequence[str]) -> bool:
    """Whether the words are the same once list marks and numbers of list items are gone."""
    bare = [tokens(_LIST_MARK.sub("", answer)) for answer in answers]
    return bool(bare[0]) and bare[0] == bare[1]


def _same_but_longer(left: _Answer, right: _Answer) -> bool:
    """Whether the shorter is how the longer begins, or the longer says the shorter's sentences again."""
    short, long = sorted((left.words, right.words), key=len)
    if not short or len(short) == len(long):
        return False
    # The last word of a text that was cut may be half a word.
    *whole, last = short
    if long[: len(whole)] == whole and long[len(whole)].startswith(last):
        return True
    if set(short) != set(long):
        return False
    sentences = [{part for part in _SENTENCE_END.split(side.plain) if len(part) > 3} for side in (left, right)]
    return bool(sentences[0]) and sentences[0] == sentences[1]


_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")
_SMALL_WORDS = frozenset().union(*STOP_WORDS.values())


def _off_topic(asked: set[str], chosen: set[str], rejected: set[str]) -> bool:
    """No word of content in common with prompt and chosen, though chosen has some with the prompt."""
    if any(len(word) > 3 and word not in _SMALL_WORDS for word in rejected & (asked | chosen)):
        return False  # most rows are through here, before any word is cut
    topic, instead = _content(asked), _content(rejected)
    known = topic | _content(chosen)
    return len(topic) >= 3 and len(instead) >= 8 and bool(topic & _content(chosen)) and not instead & known


def _content(words: set[str]) -> set[str]:
    """Words that say what a text is about, cut to five letters so that their endings do not matter."""
    return {word[:5] for word in words if word not in _SMALL_WORDS and (len(word) > 3 or not word.isascii())}


def _improvement(
    record: PreferencePair, chosen: _Answer, rejected: _Answer, shared: float, off_topic: bool
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
    if chosen.refuses != rejected.refuses or bool(chosen.toxic) != bool(rejected.toxic):
        return "safety"
    texts = (chosen.text, rejected.text)
    if shared > 0.3 and any(len(set(map(sign, texts))) > 1 for sign in (_facts, _denies)):
        return "accuracy"
    if off_topic or len(chosen.text) > 1.3 * len(rejected.text):
        return "helpfulness"
    return "style"


def _facts(text: str) -> frozenset[str]:
    """The numbers a text states."""
    return frozenset(_NUMBER.findall(text))


def _denies(text: str) -> bool:
    """Whether a text starts by saying no."""
    return bool(_NEGATION.search(text[:120]))


def _gap(record: PreferencePair, name: str) -> float:
    chosen, rejected = (record.dimensions or {})[name]
    return chosen - rejected
