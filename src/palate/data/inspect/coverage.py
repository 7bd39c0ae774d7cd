"""What the prompts are about, and what is missing: clusters of prompts named by their words."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from palate.data.inspect.inspection import PromptCluster
from palate.data.measures.language import STOP_WORDS
from palate.data.measures.pairs import IMPROVEMENTS
from palate.data.measures.words import tokens

_VOCABULARY = 2000
_ROUNDS = 15
FEWEST_JUDGED = 50
"""With fewer pairs a share of a kind of improvement says nothing."""
_LOOKED_AT = 2000  # characters of a prompt
_SHORT_FORMS = ("'s", "'m", "'re", "'ve", "'ll", "'d", "n't")
_SMALL_WORDS = frozenset().union(*STOP_WORDS.values())


class PromptSample:
    """A sample of prompts that does not depend on the order of rows: those with the lowest hashes."""

    def __init__(self, size: int = 4000) -> None:
        self._size = size
        self._heap: list[tuple[int, str]] = []
        self._seen: set[int] = set()

    def add(self, prompt_hash: int, text: str) -> None:
        """Offers a prompt; a prompt that was offered before changes nothing."""
        if (len(self._heap) == self._size and -prompt_hash <= self._heap[0][0]) or prompt_hash in self._seen:
            return
        self._seen.add(prompt_hash)
        text = text[:_LOOKED_AT]
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (-prompt_hash, text))
        else:
            self._seen.discard(-heapq.heapreplace(self._heap, (-prompt_hash, text))[0])

    def texts(self) -> list[str]:
        """The sample, in the order of the hashes."""
        return [text for _, text in sorted(self._heap, reverse=True)]


def prompt_clusters(texts: list[str]) -> tuple[PromptCluster, ...]:
    """Groups of prompts with words in common, largest first: spherical k-means over TF-IDF, always the same result."""
    documents = [Counter(word for word in tokens(text) if _tells(word)) for text in texts]
    frequency = Counter(word for document in documents for word in document)
    vocabulary = sorted(
        (word for word, count in frequency.items() if count > 1), key=lambda word: (-frequency[word], word)
    )
    vocabulary = vocabulary[:_VOCABULARY]
    k = min(12, len(documents) // 20)
    if k < 2 or len(vocabulary) < k:
        return ()
    place = {word: index for index, word in enumerate(vocabulary)}
    table = np.zeros((len(documents), len(vocabulary)), dtype=np.float32)
    for row, document in enumerate(documents):
        for word, count in document.items():
            if word in place:
                table[row, place[word]] = (1 + math.log(count)) * math.log(len(documents) / frequency[word])
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    centres = _first_centres(table, k)
    nearest = np.zeros(len(table), dtype=np.int64)
    for _ in range(_ROUNDS):
        nearest = np.argmax(table @ centres.T, axis=1)
        for cluster in range(k):
            members = table[nearest == cluster]
            if len(members):
                centres[cluster] = members.mean(axis=0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    sizes = np.bincount(nearest, minlength=k)
    found = []
    for cluster in np.argsort(-sizes, kind="stable"):
        if sizes[cluster]:
            # Words that mark the cluster: frequent in it, compared with everywhere.
            marks = np.argsort(-(centres[cluster] - table.mean(axis=0)), kind="stable")[:5]
            words = tuple(vocabulary[mark] for mark in marks)
            found.append(PromptCluster(words, int(sizes[cluster]), float(sizes[cluster] / len(table))))
    return tuple(found)


def gaps(improvements: Mapping[str, int], clusters: tuple[PromptCluster, ...]) -> list[str]:
    """What hardly occurs: kinds of improvement under 5 % of 50 pairs or more, subjects under 2 %."""
    found = []
    total = sum(improvements.values())
    for name in IMPROVEMENTS[:3] if total >= FEWEST_JUDGED else ():
        share = improvements.get(name, 0) / total
        if share < 0.05:
            found.append(f"few pairs are about {name} ({share:.1%})")
    for cluster in clusters:
        if cluster.share < 0.02:
            found.append(f"few prompts are about {', '.join(cluster.words[:3])} ({cluster.share:.1%})")
    return found


def _tells(word: str) -> bool:
    """Whether a word says what a text is about."""
    plain = (len(word) > 2 or not word.isascii()) and not word.isdigit()
    return plain and word not in _SMALL_WORDS and not word.endswith(_SHORT_FORMS)


def _first_centres(table: np.ndarray, k: int) -> np.ndarray:
    """Rows that lie far from each other, starting from the one nearest to the mean."""
    chosen = [int(np.argmax(table @ table.mean(axis=0)))]
    likeness = table @ table[chosen[0]]
    while len(chosen) < k:
        chosen.append(int(np.argmin(likeness)))
        likeness = np.maximum(likeness, table @ table[chosen[-1]])
    return table[chosen].copy()
