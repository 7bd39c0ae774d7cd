"""Evaluation texts in training data: shared sequences of 13 words, and near-duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from palate.data.measures.similarity import Signature, band_keys, estimate, ngram_hashes, signature
from palate.data.measures.words import tokens

_RUN = 13  # words in a sequence, as in the check of the GPT-3 paper
_SHORT = 8  # shorter texts are compared as a whole only
_NEAR = 0.8  # Jaccard similarity of near-duplicates


@dataclass(frozen=True, slots=True)
class Leak:
    """A match with an evaluation text.

    Attributes:
        where: id of the evaluation text.
        how: `same`, `run` (13 consecutive words in common) or `near` (near-duplicate).
    """

    where: str
    how: str


class EvaluationTexts:
    """Texts that must not be trained on."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        """Args:
        texts: (id, text) of every evaluation prompt and answer.
        """
        self._runs: dict[bytes, str] = {}
        self._whole: dict[str, str] = {}
        self._signatures: list[tuple[str, Signature]] = []
        self._bands: dict[bytes, list[int]] = defaultdict(list)
        for where, text in texts:
            words = tokens(text)
            if len(words) < _RUN:
                self._whole.setdefault(" ".join(words), where)
            if len(words) < _SHORT:
                continue
            if len(words) >= _RUN:
                for run in ngram_hashes(text, _RUN):
                    self._runs.setdefault(run, where)
            found = signature(text)
            for key in band_keys(found):
                self._bands[key].append(len(self._signatures))
            self._signatures.append((where, found))

    def __len__(self) -> int:
        return len(self._signatures) + len(self._whole)

    def find(self, text: str) -> Leak | None:
        """The first evaluation text that this text contains or resembles, None if there is none."""
        words = tokens(text)
        if (where := self._whole.get(" ".join(words))) is not None and words:
            return Leak(where, "same")
        if len(words) >= _RUN:
            for run in ngram_hashes(text, _RUN):
                if (where := self._runs.get(run)) is not None:
                    return Leak(where, "run")
        if len(words) >= _SHORT:
            return self._near(signature(text))
        return None

    def _near(self, found: Signature) -> Leak | None:
        candidates = sorted({index for key in band_keys(found) for index in self._bands.get(key, ())})
        for index in candidates:
            where, other = self._signatures[index]
            if estimate(other, found) >= _NEAR:
                return Leak(where, "near")
        return None
