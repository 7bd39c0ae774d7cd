"""Similarity of texts: MinHash signatures, groups of near-duplicates, shared n-grams.

The signature is one-permutation MinHash with rotation (Shrivastava and Li 2014) over the 8-byte windows of a text. It
needs no tokenizer, works for any script and computes one hash per window. 8 bits of each of its 128 values are kept (Li
and König 2010), so a signature has 128 bytes. Why it is not a library: docs/decisions/0003-near-duplicates.md.
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
    """uint8 [128]: the share of equal values of two signatures estimates the Jaccard similarity of their texts."""
    return plain_signature(plain_text(text))


def plain_signature(plain: str) -> Signature:
    """The signature of a text that `plain_text` has normalised already."""
    data = plain.encode().ljust(_WINDOW)
    # A view of one 8-byte word starting at every byte: NumPy reads words that are not aligned.
    windows = np.ndarray((len(data) - _WINDOW + 1,), dtype=np.uint64, buffer=data, strides=(1,))
    # Two rounds of mixing, because windows of one text differ in few bits and one multiplication does not hide that.
    hashed = (windows ^ (windows >> np.uint64(29))) * _FACTORS[0]
    hashed = (hashed ^ (hashed >> np.uint64(32))) * _FACTORS[1]
    hashed.sort()
    # The top 7 bits of a hash select a bin, the rest is its value; the signature has the lowest value of each bin.
    first = hashed.searchsorted(_BIN_STARTS)
    filled = np.append(first[1:], len(hashed)) > first
    if filled.all():
        return _low_bits(hashed[first])
    # An empty bin takes the value of the next filled one, plus a number that depends on the distance.
    donors = np.flatnonzero(filled)
    donor = donors[donors.searchsorted(_BIN) % len(donors)]
    distance = ((donor - _BIN) % PLACES).astype(np.uint64)
    return _low_bits(hashed[first[donor]] + distance * _FACTORS[1])


def _low_bits(values: npt.NDArray[np.uint64]) -> Signature:
    """8 well-mixed bits of each value: 64-bit values would be eight times as large and hardly more accurate."""
    return ((values * _FACTORS[0]) >> np.uint64(56)).astype(np.uint8)


def estimate(left: Signature, right: Signature) -> float:
    """The estimated Jaccard similarity, 0 … 1, with a standard error of at most 0.05."""
    return max(0.0, (float(np.mean(left == right)) - _BY_CHANCE) / (1 - _BY_CHANCE))


def band_keys(found: Signature) -> list[bytes]:
    """32 keys; two texts of similarity 0.8 share at least one with probability above 0.9999."""
    width = len(found) // _BANDS
    return [bytes([band]) + found[band * width : (band + 1) * width].tobytes() for band in range(_BANDS)]


def near_duplicates(signatures: Sequence[Signature] | npt.NDArray[np.uint8], threshold: float = 0.8) -> list[int]:
    """Per text the index of the first text of its group; its own index if no earlier text is similar.

    Candidates share one of 32 bands of 4 values (a pair of similarity 0.8 does with probability above 0.9999). Each is
    compared with its neighbours and with the first text of that band; similar ones are joined, also through chains.
    """
    table = np.asarray(signatures, dtype=np.uint8).reshape(-1, PLACES)
    if len(table) < 2:
        return list(range(len(table)))
    wanted = (threshold * (1 - _BY_CHANCE) + _BY_CHANCE) * PLACES
    bands = np.ascontiguousarray(table).view(np.uint32).reshape(len(table), _BANDS)
    group = np.arange(len(table))
    for band in range(_BANDS):
        edges = group[_similar_rows(table, np.ascontiguousarray(bands[:, band]), wanted, group)]
        if len(edges):
            graph = coo_array((np.ones(len(edges), dtype=np.int8), tuple(edges.T)), shape=(len(table),) * 2)
            group = connected_components(graph, directed=False)[1].astype(np.int64)[group]
    first = np.full(group.max() + 1, len(table), dtype=np.int64)
    np.minimum.at(first, group, np.arange(len(table)))
    return [int(index) for index in first[group]]


def _similar_rows(
    table: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint32], wanted: float, group: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """int64 [edges, 2]: rows with equal band keys, not in one group yet, that agree in `wanted` values or more."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    position = np.arange(len(order))
    # Start of the run of equal keys for each position.
    start = np.maximum.accumulate(np.where(np.append(True, ordered[1:] != ordered[:-1]), position, 0))
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for partner in (position - 1, position - 2, start):
        same_key = (partner >= start) & (partner < position)
        candidates = np.stack([order[partner[same_key]], order[same_key]], axis=1)
        candidates = candidates[group[candidates[:, 0]] != group[candidates[:, 1]]]
        for at in range(0, len(candidates), _COMPARED):
            block = candidates[at : at + _COMPARED]
            agree = np.count_nonzero(table[block[:, 0]] == table[block[:, 1]], axis=1)
            pairs.append(block[agree >= wanted])
    return np.concatenate(pairs)


def ngram_hashes(text: str, n: int = 13) -> set[bytes]:
    """Hashes of all sequences of n `tokens` of a text; a shorter text is one sequence."""
    words = tokens(text)
    if not words:
        return set()
    runs: Iterable[Sequence[str]] = (words[start : start + n] for start in range(max(1, len(words) - n + 1)))
    return {hashlib.blake2b("\x1f".join(run).encode(), digest_size=8).digest() for run in runs}


def overlap(left: set[str], right: set[str]) -> float:
    """Jaccard similarity of two sets of words, 0 … 1; 0 for two empty sets."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0
