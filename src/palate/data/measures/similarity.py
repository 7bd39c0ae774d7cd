"""How alike texts are: MinHash signatures, groups of near-duplicates, shared n-grams.

The signature is one-permutation MinHash with rotation (Shrivastava and Li 2014) over the 8-byte windows of a text. It
needs no idea of words, works for any script, and costs one hash a window however long it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from palate.data.measures.language import WORD
from palate.data.split import plain_text

Signature = npt.NDArray[np.uint32]

PLACES = 128
_BANDS = 32
_WINDOW = 8
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_BIN_STARTS = np.arange(PLACES, dtype=np.uint64) << np.uint64(57)
_BIN = np.arange(PLACES)


def signature(text: str) -> Signature:
    """uint32 [128]: the share of equal places of two signatures estimates the Jaccard similarity of their texts."""
    data = np.frombuffer(plain_text(text).encode().ljust(_WINDOW), dtype=np.uint8)
    windows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(data, _WINDOW)).view(np.uint64).ravel()
    # Two rounds of mixing: the windows of one text differ in few bits, and one multiplication leaves that visible.
    hashed = (windows ^ (windows >> np.uint64(29))) * _FACTORS[0]
    hashed = (hashed ^ (hashed >> np.uint64(32))) * _FACTORS[1]
    hashed.sort()
    # The top 7 bits of a hash are its place, the rest its value; of each place the lowest value counts.
    first = np.searchsorted(hashed, _BIN_STARTS)
    filled = np.append(first[1:], len(hashed)) > first
    # A place that no window fell into borrows from the next one that is filled, marked with the distance.
    donors = np.flatnonzero(filled)
    after = np.searchsorted(donors, _BIN)
    donor = donors[after % len(donors)]
    distance = ((donor - _BIN) % PLACES).astype(np.uint32)
    values = ((hashed[first[donor]] >> np.uint64(25)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return values + distance * np.uint32(0x85EBCA6B)


def estimate(left: Signature, right: Signature) -> float:
    """The estimated Jaccard similarity, 0 … 1, with a standard error of at most 0.05."""
    return float(np.mean(left == right))


def band_keys(found: Signature) -> list[bytes]:
    """32 keys; two texts of similarity 0.8 share at least one with probability above 0.9999."""
    width = len(found) // _BANDS
    return [bytes([band]) + found[band * width : (band + 1) * width].tobytes() for band in range(_BANDS)]


def near_duplicates(signatures: Sequence[Signature] | npt.NDArray[np.uint32], threshold: float = 0.8) -> list[int]:
    """Per text the index of the first text of its group: its own index where nothing earlier is like it.

    Candidates share one of 32 bands of 4 places (a pair of similarity 0.8 does with probability above 0.9999); those
    whose signatures agree to `threshold` or more are joined.
    """
    table = np.asarray(signatures, dtype=np.uint32).reshape(-1, PLACES)
    parent = list(range(len(table)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    bands = np.ascontiguousarray(table.reshape(len(table), _BANDS, -1)).view(np.uint64).reshape(len(table), _BANDS, -1)
    for band in range(_BANDS):
        keys = bands[:, band, 0] * _FACTORS[0] ^ bands[:, band, 1]
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        for place in same:
            # In a bucket each text is compared with its neighbour and with the root of that neighbour's group.
            first, second = int(order[place]), int(order[place + 1])
            for other in (first, root(first)):
                if root(other) != root(second) and estimate(table[other], table[second]) >= threshold:
                    low, high = sorted((root(other), root(second)))
                    parent[high] = low
                    break
    return [root(index) for index in range(len(table))]


def ngram_hashes(text: str, n: int = 13) -> set[bytes]:
    """Hashes of a text's runs of n `tokens`; a shorter text is one run."""
    words = tokens(text)
    if not words:
        return set()
    runs: Iterable[Sequence[str]] = (words[start : start + n] for start in range(max(1, len(words) - n + 1)))
    return {hashlib.blake2b("\x1f".join(run).encode(), digest_size=8).digest() for run in runs}


def tokens(text: str) -> list[str]:
    """Words in lower case; of scripts without spaces every character."""
    if text.isascii():  # most texts; three times as fast as the pattern
        return text.lower().translate(_SIGNS_TO_SPACES).replace(" '", " ").replace("' ", " ").split()
    found: list[str] = []
    for word in WORD.findall(plain_text(text)):
        if word.isascii() or not _NO_SPACES.search(word):
            found.append(word.replace("’", "'"))
        else:
            found.extend(word)
    return found


_SIGNS_TO_SPACES = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != "'"}
_NO_SPACES = re.compile("[\u2e80-\u9fff\u0e00-\u0e7f]")


def overlap(left: set[str], right: set[str]) -> float:
    """Jaccard similarity of two sets of words, 0 … 1; of two empty sets 0."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time as the bits of one integer.

    Hyyrö 2004: a hundred times as fast as the table for answers of some hundred words.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(left)) - 1
    row = full
    for word in right:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(left) - row.bit_count()
