"""palate's near-duplicate search against datasketch's MinHash LSH, and both against exact Jaccard similarity.

    pip install datasketch
    python benchmarks/near_duplicates.py ../shared/data/preference/ultrafeedback_1k_train.jsonl \\
        ../shared/data/preference/hh_harmless_base_test.jsonl.gz --rows 3000 --out near_duplicates.json

Both sides read the same texts (the last question with both answers, normalised the same way), cut them into the same
8-byte windows, keep 128 values a text and look for pairs of Jaccard similarity from 0.8 on; datasketch in the way its
documentation recommends for speed (`MinHash.bulk`, `MinHashLSH.query`). The truth is the exact similarity of every two
texts that share any of their 16 lowest window hashes (what shares none of those is far below 0.5).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _recombined import write_recombined

from palate.data import load_records
from palate.data.measures.pairs import completions, said
from palate.data.measures.similarity import PLACES, near_duplicates, signature
from palate.records import PreferencePair, plain_text

THRESHOLD = 0.8
Groups = list[int]


def windows(text: str) -> set[bytes]:
    """The 8-byte windows of a text."""
    data = text.encode().ljust(8)
    return {data[start : start + 8] for start in range(len(data) - 7)}


def ours(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    """(make signatures, group them) with palate."""
    return lambda: np.stack([signature(text) for text in texts]), lambda made: near_duplicates(made, THRESHOLD)


def theirs(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    """(make signatures, group them) with datasketch."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        sys.exit("datasketch is not installed: pip install datasketch")

    def group(made: list[Any]) -> Groups:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PLACES)
        first = list(range(len(made)))
        for place, found in enumerate(made):
            alike = [other for other in index.query(found) if found.jaccard(made[other]) >= THRESHOLD]
            first[place] = min((first[other] for other in alike), default=place)
            index.insert(place, found)
        return first

    return lambda: MinHash.bulk((windows(text) for text in texts), num_perm=PLACES, seed=1), group


def exact(texts: list[str]) -> set[tuple[int, int]]:
    """Every pair of texts whose windows have a Jaccard similarity of at least 0.8."""
    sets = [numbers(text) for text in texts]
    buckets: dict[int, list[int]] = defaultdict(list)
    for place, found in enumerate(sets):
        for low in np.sort(found * np.uint64(0x9E3779B97F4A7C15))[:16]:
            buckets[int(low)].append(place)
    candidates = {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}
    alike = set()
    for left, right in candidates:
        shared = len(np.intersect1d(sets[left], sets[right], assume_unique=True))
        if shared >= THRESHOLD * (len(sets[left]) + len(sets[right]) - shared):
            alike.add((left, right))
    return alike


def numbers(text: str) -> np.ndarray:
    """The different 8-byte windows of a text, each read as a number."""
    data = text.encode().ljust(8)
    return np.unique(np.ndarray((len(data) - 7,), dtype=np.uint64, buffer=data, strides=(1,)))


def scored(texts: list[str], truth: set[tuple[int, int]], side: Callable[[list[str]], Any]) -> dict[str, float]:
    """Seconds, and how many of the rows that have an earlier near-duplicate are told to have one, and how many not."""
    make, group = side(texts)
    start = time.perf_counter()
    made = make()
    between = time.perf_counter()
    groups = group(made)
    end = time.perf_counter()
    repeated = {right for _, right in truth}
    named = {place for place, first in enumerate(groups) if first != place}
    return {
        "signature_seconds": between - start,
        "search_seconds": end - between,
        "recall": len(named & repeated) / len(repeated),
        "precision": len(named & repeated) / max(1, len(named)),
        "named": len(named),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=["palate-demo"])
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_recombined(path, options.datasets, options.rows)
        records = load_records(str(path), kind=PreferencePair).records
    texts = [plain_text("\n".join((record.prompt[-1].content, *map(said, completions(record))))) for record in records]
    truth = exact(texts)
    found = {"rows": len(texts), "repeated": len({right for _, right in truth})}
    print(f"{found['rows']:,} texts, of which {found['repeated']:,} are at least 0.8 like an earlier one")
    sides = {"palate": scored(texts, truth, ours), "datasketch": scored(texts, truth, theirs)}
    for name, figures in sides.items():
        print(
            f"{name:<12}signatures{figures['signature_seconds']:>8.2f} s  search{figures['search_seconds']:>7.2f} s  "
            f"recall {figures['recall']:.3f}  precision {figures['precision']:.3f}"
        )
    if options.out:
        options.out.write_text(json.dumps({**found, **sides}, indent=2) + "\n")


if __name__ == "__main__":
    main()
