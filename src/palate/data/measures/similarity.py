"""How alike texts are: MinHash signatures, groups of near-duplicates, shared n-grams.

The signature is one-permutation MinHash with rotation (Shrivastava and Li 2014) over the 8-byte windows of a text. It
needs no idea of words, works for any script, and costs one hash a window however long it is. Of each of its 128 values
8 bits are kept (Li and König 2010), so that a row is remembered in 128 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from palate.data.measures.words import tokens
from palate.records import plain_text

Signature = npt.NDArray[np.uint8]

PLACES = 128
_BANDS = 32
_WINDOW = 8
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_BY_CHANCE = 1 / 256
_COMPARED = 1 << 16
_BIN_STARTS = np.arange(PLACES, dtype=np.uint64) << np.uint64(57)
_BIN = np.arange(PLACES)


def signature(text: str) -> Signature:
    """uint8 [128]: the share of equal places of two signatures tells the Jaccard similarity of their texts."""
    return plain_signature(plain_text(text))


def plain_signature(plain: str) -> Signature:
    """The signature of a text that went through `plain_text` already."""
    data = plain.encode().ljust(_WINDOW)
    # One 8-byte word from every byte on, without copying: NumPy reads words that are not aligned.
    windows = np.ndarray((len(data) - _WINDOW + 1,), dtype=np.uint64, buffer=data, strides=(1,))
    # Two rounds of mixing: the windows of one text differ in few bits, and one multiplication leaves that visible.
    hashed = (windows ^ (windows >> np.uint64(29))) * _FACTORS[0]
    hashed = (hashed ^ (hashed >> np.uint64(32))) * _FACTORS[1]
    hashed.sort()
    # The top 7 bits of a hash are its place, the rest its value; of each place the lowest value counts.
    first = hashed.searchsorted(_BIN_STARTS)
    filled = np.append(first[1:], len(hashed)) > first
    if filled.all():
        return _low_bits(hashed[first])
    # A place that no window fell into borrows from the next one that is filled, marked with the distance.
    donors = np.flatnonzero(filled)
    donor = donors[donors.searchsorted(_BIN) % len(donors)]
    distance = ((donor - _BIN) % PLACES).astype(np.uint64)
    return _low_bits(hashed[first[donor]] + distance * _FACTORS[1])


def _low_bits(values: npt.NDArray[np.uint64]) -> Signature:
    """8 well-mixed bits of each value: 64-bit values would be eight times as large and hardly tell more."""
    return ((values * _FACTORS[0]) >> np.uint64(56)).astype(np.uint8)


def estimate(left: Signature, right: Signature) -> float:
    """The estimated Jaccard similarity, 0 … 1, with a standard error of at most 0.05."""
    return max(0.0, (float(np.mean(left == right)) - _BY_CHANCE) / (1 - _BY_CHANCE))


def band_keys(found: Signature) -> list[bytes]:
    """32 keys; two texts of similarity 0.8 share at least one with probability above 0.9999."""
    width = len(found) // _BANDS
    return [bytes([band]) + found[band * width : (band + 1) * width].tobytes() for band in range(_BANDS)]


def near_duplicates(signatures: Sequence[Signature] | npt.NDArray[np.uint8], threshold: float = 0.8) -> list[int]:
    """Per text the index of the first text of its group: its own index where nothing earlier is like it.

    Candidates share one of 32 bands of 4 places (a pair of similarity 0.8 does with probability above 0.9999) and are
    compared with their neighbours and with the first of that band; those that are alike are joined, chains included.
    """
    table = np.asarray(signatures, dtype=np.uint8).reshape(-1, PLACES)
    if len(table) < 2:
        return list(range(len(table)))
    wanted = (threshold * (1 - _BY_CHANCE) + _BY_CHANCE) * PLACES
    bands = np.ascontiguousarray(table).view(np.uint32).reshape(len(table), _BANDS)
    group = np.arange(len(table))
    for band in range(_BANDS):
        edges = group[_alike(table, np.ascontiguousarray(bands[:, band]), wanted, group)]
        if len(edges):
            graph = coo_array((np.ones(len(edges), dtype=np.int8), tuple(edges.T)), shape=(len(table),) * 2)
            group = connected_components(graph, directed=False)[1].astype(np.int64)[group]
    first = np.full(group.max() + 1, len(table), dtype=np.int64)
    np.minimum.at(first, group, np.arange(len(table)))
    return [int(index) for index in first[group]]


def _alike(
    table: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint32], wanted: float, group: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """int64 [edges, 2]: rows of one band key, not of one group yet, that agree in `wanted` places or more."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    place = np.arange(len(order))
    # Where the run of equal keys starts that a place belongs to.
    start = np.maximum.accumulate(np.where(np.append(True, ordered[1:] != ordered[:-1]), place, 0))
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for other in (place - 1, place - 2, start):
        of_one_key = (other >= start) & (other < place)
        candidates = np.stack([order[other[of_one_key]], order[of_one_key]], axis=1)
        candidates = candidates[group[candidates[:, 0]] != group[candidates[:, 1]]]
        for at in range(0, len(candidates), _COMPARED):
            block = candidates[at : at + _COMPARED]
            agree = np.count_nonzero(table[block[:, 0]] == table[block[:, 1]], axis=1)
            pairs.append(block[agree >= wanted])
    return np.concatenate(pairs)


def ngram_hashes(text: str, n: int = 13) -> set[bytes]:
    """Hashes of a text's runs of n `tokens`; a shorter text is one run."""
    words = tokens(text)
    if not words:
        return set()
    runs: Iterable[Sequence[str]] = (words[start : start + n] for start in range(max(1, len(words) - n + 1)))
    return {hashlib.blake2b("\x1f".join(run).encode(), digest_size=8).digest() for run in runs}


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
