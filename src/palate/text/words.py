"""Token ids of long texts, word by word: a word that has been seen is not tokenised again.

A tokenizer of GPT-2's kind never lets a token reach from a character that is not white space over a space that follows
it, so the ids of a text are those of its words, each with the space before it. Words are looked up; those of ASCII that
are new are split by GPT-2's own pattern and merged by the tokenizer's model, others are given to the tokenizer as they
are. Only around the places where a turn begins or ends does anybody need to know which characters a token covers: there
the text between the two nearest cuts is tokenised with offsets. A tokenizer of another kind gets whole texts.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

if TYPE_CHECKING:
    from tokenizers import Encoding

    from palate.text.template import Template

# GPT-2's pattern for ASCII; white space as Unicode has it, which Python's \s exceeds by four control characters.
_PATTERN = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
)
_DIGIT = re.compile("([0-9])")
# Longer words (addresses, code without spaces) hardly ever come again.
_LONGEST_KEPT = 40
_KEPT = 1 << 18
"""Words that are remembered, and parts of words: some 40 MB."""
_KEPT_PLACES = 1 << 14
"""Places with offsets that are remembered: they are larger, some 20 MB."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A stretch of a text that was tokenised with offsets: its characters [start, end), its tokens from `token` on."""

    start: int
    end: int
    token: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text.

    Attributes:
        ids: int32 [n].
        places: where it is known which characters the tokens cover.
    """

    ids: npt.NDArray[np.int32]
    places: tuple[_Place, ...] = ()

    def token_at(self, start: int, end: int) -> int:
        """Index of the first token over the characters [start, end); n if none. `start` lies in one of the places.

        Tokenizers may leave white space to no token.
        """
        if start >= end:
            return len(self.ids)
        place = next(place for place in self.places if place.start <= start < place.end)
        for character in range(start, min(end, place.end)):
            token: int | None = place.encoding.char_to_token(character - place.start)
            if token is not None:
                return place.token + token
        return place.token + len(place.encoding.ids) if place.end < end else len(self.ids)

    def straddles(self, token: int, character: int) -> bool:
        """Whether a token of one of the places begins before `character`; False of any other."""
        for place in self.places:
            if 0 <= token - place.token < len(place.encoding.ids):
                chars = place.encoding.token_to_chars(token - place.token)
                return chars is not None and place.start + chars[0] < character
        return False


_Piece: TypeAlias = tuple[int, int, "list[str] | str", bool]
"""Characters [start, end) of a text; its words, or the stretch itself; whether its tokens' places are wanted."""


class Words:
    """Tokenises texts by one template's tokenizer, and remembers the words."""

    def __init__(self, template: Template) -> None:
        self.template = template
        tokenizer = template.tokenizer
        self.by_word, self._digits = _kind(tokenizer.backend_tokenizer, tokenizer.added_tokens_decoder.values())
        self._model = tokenizer.backend_tokenizer.model
        self._added = {token.content: _bytes([i]) for i, token in tokenizer.added_tokens_decoder.items()}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._table = _byte_table()
        self._words: dict[str, bytes] = {}
        self._parts: dict[str, bytes] = {}
        self._places: dict[str, tuple[Encoding, bytes]] = {}

    def __call__(self, texts: Sequence[str], edges: Sequence[Iterable[int]]) -> list[Tokens]:
        """The tokens of each text, with places around its edges: characters, of which one at the end needs no place."""
        rows = [self._pieces(text, marks) for text, marks in zip(texts, edges, strict=True)]
        asked: dict[bool, dict[str, None]] = {True: {}, False: {}}
        for row in rows:
            for _, _, piece, placed in row:
                if isinstance(piece, str):
                    asked[placed][piece] = None
        stretches = list(asked[False])
        whole = dict(zip(stretches, map(_bytes, self.template.token_ids(stretches)), strict=True))
        unseen = [text for text in asked[True] if text not in self._places]
        for text, encoding in zip(unseen, self.template.tokenize(unseen), strict=True):
            self._places[text] = (encoding, _bytes(encoding.ids))
        self._learn({word for row in rows for _, _, piece, _ in row if isinstance(piece, list) for word in piece})
        done = [self._joined(row, whole) for row in rows]
        self._forget()
        return done

    def _pieces(self, text: str, edges: Iterable[int]) -> list[_Piece]:
        """The text in stretches: those around the edges, what stands before the first cut, and words."""
        inner = sorted({edge for edge in edges if edge < len(text)})
        # Words of other scripts end in characters after which nothing is cut here.
        if not self.by_word or (not text.isascii() and len(text.encode()) > 1.1 * len(text)):
            return [(0, len(text), text, bool(inner))] if text else []
        pieces: list[_Piece] = []
        at = 0
        for edge in inner:
            if edge < at:
                continue
            start, end = _cut_before(text, edge), _cut_after(text, edge)
            self._add(pieces, text, at, start)
            pieces.append((start, end, text[start:end], True))
            at = end
        self._add(pieces, text, at, len(text))
        return pieces

    def _add(self, pieces: list[_Piece], text: str, start: int, end: int) -> None:
        """What lies between two places; the beginning of a text, where no space stands, by itself."""
        if start == 0:
            start = min(_cut_after(text, 0), end)
            if start:
                pieces.append((0, start, text[:start], False))
        if start < end:
            words = text[start:end].split(" ")
            del words[0]
            if any(not _clean(word) for word in set(words).difference(self._words)):
                words = _merged(words)
            pieces.append((start, end, words, False))

    def _learn(self, words: set[str]) -> None:
        """Tokenise words that are new."""
        new = words.difference(self._words)
        others = {word: text for word in new if not (text := _text(word)).isascii()}
        for word in new.difference(others):
            self._words[word] = b"".join(map(self._part, self._split(_text(word))))
        for word, ids in zip(others, self.template.token_ids(list(others.values())), strict=True):
            self._words[word] = _bytes(ids)

    def _split(self, text: str) -> list[str]:
        """A word of ASCII as added tokens and what the tokenizer's model merges each by itself."""
        found = []
        for i, piece in enumerate(self._special.split(text)):
            if i % 2:
                found.append(piece)
            else:
                for part in _DIGIT.split(piece) if self._digits else (piece,):
                    found += _PATTERN.findall(part)
        return found

    def _part(self, text: str) -> bytes:
        ids = self._parts.get(text)
        if ids is None:
            ids = self._added.get(text)
            if ids is None:
                ids = _bytes([token.id for token in self._model.tokenize(text.translate(self._table))])
            if len(text) <= _LONGEST_KEPT:
                self._parts[text] = ids
        return ids

    def _joined(self, row: Sequence[_Piece], whole: dict[str, bytes]) -> Tokens:
        ids = bytearray()
        places = []
        for start, end, piece, placed in row:
            if isinstance(piece, list):
                ids += b"".join(map(self._words.__getitem__, piece))
            elif placed:
                encoding, mine = self._places[piece]
                places.append(_Place(start, end, len(ids) // _SIZE, encoding))
                ids += mine
            else:
                ids += whole[piece]
        return Tokens(np.frombuffer(ids, dtype=np.int32) if ids else np.zeros(0, dtype=np.int32), tuple(places))

    def _forget(self) -> None:
        """Keeps memory flat: what is long hardly ever comes again, and a full memory begins anew."""
        memories = ((self._words, _KEPT), (self._parts, _KEPT), (self._places, _KEPT_PLACES))
        for kept, most in memories:
            if len(kept) > most:
                kept.clear()
        for text in [text for text in self._places if len(text) > _LONGEST_KEPT]:
            del self._places[text]
        for word in [word for word in self._words if len(word) > _LONGEST_KEPT]:
            del self._words[word]


_SIZE = 4


def _bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()


def _clean(word: str) -> bool:
    """Whether a text may be cut behind this word, before a space."""
    return bool(word) and "!" <= word[-1] <= "~"


def _text(word: str) -> str:
    """What a word stands for: itself after a space. The end of a text that is not clean has its space already."""
    return f" {word}" if _clean(word) else word


def _merged(words: Iterable[str]) -> list[str]:
    """The words with every one that is not clean joined to the next; the last may have nothing to be joined to."""
    done = []
    held: str | None = None
    for word in words:
        whole = word if held is None else f"{held} {word}"
        if _clean(whole):
            done.append(whole)
            held = None
        else:
            held = whole
    return done if held is None else [*done, f" {held}"]


def _cut_before(text: str, edge: int) -> int:
    """The last place at or before `edge` where the text may be cut; 0 if none."""
    at = text.rfind(" ", 0, edge + 1)
    while at > 0 and not _clean(text[at - 1]):
        at = text.rfind(" ", 0, at)
    return max(at, 0)


def _cut_after(text: str, edge: int) -> int:
    """The first place behind `edge` where the text may be cut; its end if none."""
    at = text.find(" ", edge + 1)
    while at != -1 and not _clean(text[at - 1]):
        at = text.find(" ", at + 1)
    return len(text) if at == -1 else at


def _kind(backend: Tokenizer, added: Iterable[Any]) -> tuple[bool, bool]:
    """Whether texts may be cut before spaces, and whether every digit is a word of its own (SmolLM2).

    Told from the tokenizer's own description: GPT-2's splitting with nothing before it, a model that has no chance in
    it, offsets that leave nothing out, and added tokens that are looked for all at once, look at nothing around them
    and over no cut.
    """
    added = list(added)
    model = backend.model
    steps = _steps(backend.pre_tokenizer)
    digits = len(steps) == 2 and steps[0] == {"type": "Digits", "individual_digits": True}
    last = steps[-1] if len(steps) == 1 or digits else {}
    splitting = last.get("type") == "ByteLevel" and last["use_regex"] and not last["add_prefix_space"]
    trims = any(step.get("trim_offsets") for step in _steps(backend.post_processor))
    plain = isinstance(model, models.BPE) and not model.dropout and backend.normalizer is None and not trims
    loose = any(a.lstrip or a.rstrip or a.single_word or not a.content or re.search(r"\S ", a.content) for a in added)
    # Those that are not normalised are found before those that are; those that are text to it are never found.
    at_once = len({a.normalized for a in added}) < 2 and not backend.encode_special_tokens
    return splitting and plain and at_once and not loose, digits


def _steps(part: Any) -> list[dict[str, Any]]:
    """A pre-tokenizer or post-processor as the list of its steps' descriptions."""
    if part is None:
        return []
    described = json.loads(part.__getstate__())
    return list(described.get("pretokenizers") or described.get("processors") or [described])


def _byte_table() -> dict[int, str]:
    """The characters by which byte-level models write ASCII."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return {i: byte_level.pre_tokenize_str(chr(i))[0][0] for i in range(128)}
