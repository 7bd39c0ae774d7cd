"""Measures of one record: lengths, languages, differences of its answers, private data, insults."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.data.measures.language import language
from palate.data.measures.safety import Finding, find_private, toxic_words
from palate.data.measures.similarity import Signature, overlap, plain_signature
from palate.data.measures.words import SMALL_WORDS, tokens
from palate.records import Messages, PreferencePair, Record, completions_of, plain_text, prompt_key

Improvement: TypeAlias = Literal["safety", "accuracy", "helpfulness", "format", "length", "style"]
IMPROVEMENTS: tuple[Improvement, ...] = ("accuracy", "helpfulness", "safety", "style", "format", "length")

_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:very |really |so )?(?:sorry|afraid|unable|not able|not comfortable)"
    r"|i (?:can(?:no|['’])t|can not|won['’]t|will not|must decline|refuse)\b.{0,60}"
    r"(?:help|assist|provide|answer|do that|comply|discuss|create|write|give|support|engage|share|encourage)"
    r"|as an? (?:ai|language model|artificial))",
    re.IGNORECASE,
)
# 抱歉 alone may also correct a mistake or console, so the pattern wants the declined action after it.
_CANNOT_ZH = "无法|不能|不可以|没有办法|没办法|不便|不会|做不到|不具备|没有能力|不应该|拒绝"
_REFUSAL_ZH = re.compile(
    rf"(?:抱歉|对不起|不好意思|很遗憾)[^。！？!?\n]{{0,30}}(?:{_CANNOT_ZH})"
    rf"|我们?(?:{_CANNOT_ZH})(?:为您|为你|帮您|帮你|给您|给你|向您|向你)?[^。！？!?，,\n]{{0,8}}"
    r"(?:帮助|提供|回答|协助|满足|讨论|生成|撰写|支持|透露|给出|完成|执行|访问|浏览|分享|参与|鼓励)"
    rf"|作为一?[个名款位]?\s*(?:大型)?(?:人工智能|AI|语言模型|聊天机器人)[^。！？!?\n]{{0,20}}(?:{_CANNOT_ZH}|没有)"
)
JUDGED = frozenset({"en"})
"""Languages with word lists for insults, refusals and negation, which `improvement` needs."""
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
        formatting_only: they have the same words in the same order; only list marks, punctuation or case differ.
        length_only: one is the other one, truncated or with sentences repeated.
        off_topic: the rejected answer has no content word in common with the prompt or the chosen answer.
        improvement: what seems to make the chosen answer better, by simple rules.
    """

    overlap: float
    formatting_only: bool
    length_only: bool
    off_topic: bool
    improvement: Improvement


@dataclass(frozen=True, slots=True)
class AnswerMeasures:
    """Measures of one completion.

    Attributes:
        text, plain, words: the text, its normalised form and its words.
        language: ISO 639-1 code, `und` if unknown.
        refuses: whether it declines.
        toxic: insults and threats in it.
    """

    text: str
    plain: str
    words: list[str]
    language: str
    refuses: bool
    toxic: list[str]

    @classmethod
    def of(cls, text: str) -> AnswerMeasures:
        """Measures a completion."""
        words = tokens(text)
        return cls(text, plain_text(text), words, language(text), refuses(text), toxic_words(text, words))


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of one record.

    Attributes:
        language: language of the prompt; of the whole record if the prompt is too short to tell.
        answers: measures of each completion.
        private: personal data and secrets anywhere in the record.
        pair: comparison of the two answers of a pair.
        prompt_hash, answer_hashes: hashes of the normalised texts, 8 bytes each.
        signature: uint8 [128], MinHash of the last question and the answers.
    """

    language: str
    answers: tuple[AnswerMeasures, ...]
    private: list[Finding]
    pair: PairMeasures | None
    prompt_hash: bytes
    answer_hashes: tuple[bytes, ...]
    signature: Signature

    @property
    def lengths(self) -> tuple[int, ...]:
        """Characters of each completion."""
        return tuple(len(answer.text) for answer in self.answers)

    def answers_in(self, languages: Collection[str]) -> bool:
        """Whether the answers are in these languages; if no answer's language is known, whether the prompt is."""
        known = {answer.language for answer in self.answers if answer.language != "und"} or {self.language}
        return known.issubset(languages)


def conversation_text(messages: Messages) -> str:
    """The texts of a conversation, a paragraph each."""
    return "\n\n".join(message.text for message in messages)


def measure(record: Record) -> Measures:
    """All measures of one record."""
    prompt = conversation_text(record.prompt)
    by_people = conversation_text(tuple(turn for turn in record.prompt if turn.role in ("system", "user")))
    answers = tuple(AnswerMeasures.of(conversation_text(completion)) for completion in completions_of(record))
    whole = "\n".join((prompt, *(answer.text for answer in answers)))
    language_of_prompt = language(by_people)
    question = plain_text(record.prompt[-1].content) if record.prompt else ""
    return Measures(
        language=language_of_prompt if language_of_prompt != "und" else language(whole),
        answers=answers,
        private=find_private(whole),
        pair=_compare(record, prompt, *answers) if isinstance(record, PreferencePair) else None,
        prompt_hash=text_hash(prompt_key(record.prompt)),
        answer_hashes=tuple(text_hash(answer.plain) for answer in answers),
        signature=plain_signature(" ".join((question, *(answer.plain for answer in answers)))),
    )


def refuses(answer: str) -> bool:
    """Whether an answer declines within its first 200 characters, in English or Chinese."""
    head = answer[:200]
    return bool(_REFUSAL.search(head) or (not head.isascii() and _REFUSAL_ZH.search(head)))


def text_hash(text: str) -> bytes:
    """Hash of a text, 8 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _compare(record: PreferencePair, prompt: str, chosen: AnswerMeasures, rejected: AnswerMeasures) -> PairMeasures:
    of_chosen, of_rejected = set(chosen.words), set(rejected.words)
    shared = overlap(of_chosen, of_rejected)
    formatting_only = shared > 0.8 and _same_but_marked((chosen.text, rejected.text))
    length_only = not formatting_only and _same_but_longer(chosen, rejected)
    # Answers in two languages share no words even if they mean the same.
    comparable = "und" in (chosen.language, rejected.language) or chosen.language == rejected.language
    comparable = comparable and not rejected.refuses
    off_topic = shared < 0.1 and comparable and _off_topic(set(tokens(prompt)), of_chosen, of_rejected)
    improvement: Improvement
    if formatting_only or length_only:
        improvement = "format" if formatting_only else "length"
    else:
        improvement = _improvement(record, chosen, rejected, shared, off_topic)
    return PairMeasures(shared, formatting_only, length_only, off_topic, improvement)


def _same_but_marked(answers: Sequence[str]) -> bool:
    """Whether the words are the same without list marks and numbers of list items."""
    bare = [tokens(_LIST_MARK.sub("", answer)) for answer in answers]
    return bool(bare[0]) and bare[0] == bare[1]


def _same_but_longer(left: AnswerMeasures, right: AnswerMeasures) -> bool:
    """Whether the longer answer begins with the shorter one, or only repeats its sentences."""
    short, long = sorted((left.words, right.words), key=len)
    if not short or len(short) == len(long):
        return False
    # The last word of a truncated text may be half a word.
    *whole, last = short
    if long[: len(whole)] == whole and long[len(whole)].startswith(last):
        return True
    if set(short) != set(long):
        return False
    sentences = [{part for part in _SENTENCE_END.split(side.plain) if len(part) > 3} for side in (left, right)]
    return bool(sentences[0]) and sentences[0] == sentences[1]


_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")


def _off_topic(asked: set[str], chosen: set[str], rejected: set[str]) -> bool:
    """Whether rejected has no content word in common with prompt and chosen, while chosen has some with the prompt."""
    if any(len(word) > 3 and word not in SMALL_WORDS for word in rejected & (asked | chosen)):
        return False  # a shortcut that decides most rows
    topic, instead = _content(asked), _content(rejected)
    known = topic | _content(chosen)
    return len(topic) >= 3 and len(instead) >= 8 and bool(topic & _content(chosen)) and not instead & known


def _content(words: set[str]) -> set[str]:
    """Content words, truncated to five letters to ignore inflection."""
    return {word[:5] for word in words if word not in SMALL_WORDS and (len(word) > 3 or not word.isascii())}


def _improvement(
    record: PreferencePair, chosen: AnswerMeasures, rejected: AnswerMeasures, shared: float, off_topic: bool
) -> Improvement:
    """By the row's own dimensions if it has any, else by refusals, insults, numbers, negation and length."""
    if record.dimensions:
        gaps = {name: better - worse for name, (better, worse) in record.dimensions.items()}
        widest = max(gaps, key=gaps.__getitem__).lower()
        if any(part in widest for part in ("safe", "harm", "tox")):
            return "safety"
        if any(part in widest for part in ("accura", "truth", "honest", "correct", "fact")):
            return "accuracy"
        if any(part in widest for part in ("help", "instruct", "relevan", "complete")):
            return "helpfulness"
        return "style"
    if chosen.refuses != rejected.refuses or bool(chosen.toxic) != bool(rejected.toxic):
        return "safety"
    if shared > 0.3 and _facts(chosen.text) != _facts(rejected.text):
        return "accuracy"
    if off_topic or len(chosen.text) > 1.3 * len(rejected.text):
        return "helpfulness"
    return "style"


def _facts(text: str) -> tuple[frozenset[str], bool]:
    """The numbers in a text, and whether its beginning has a negation."""
    return frozenset(_NUMBER.findall(text)), bool(_NEGATION.search(text[:120]))
