"""palate's near-duplicate search beside datasketch's and rensa's, all compared with exact Jaccard similarity.

    pip install datasketch rensa
    python benchmarks/near_duplicates.py ../shared/data/preference/ultrafeedback_1k_train.jsonl \\
        ../shared/data/preference/hh_harmless_base_test.jsonl.gz --rows 3000 --out near_duplicates.json

All sides read the same texts (the last question with both answers, normalised the same way), cut them into the same
8-byte windows, keep 128 values per text and search for pairs of Jaccard similarity 0.8 or more; datasketch in the way
its documentation recommends for speed (`MinHash.bulk`, `MinHashLSH.query`), rensa with its batch functions: from the
windows as bytes with its own search, and from palate's window hashes with palate's search. The truth is the exact
similarity of every two texts that share any of their 16 lowest window hashes (texts that share none are far below 0.5).
"""

from __future__ import annotations

import argparse
import json
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
from palate.data.measures.pairs import conversation_text
from palate.data.measures.similarity import PLACES, near_duplicates, signature
from palate.records import PreferencePair, completions_of, plain_text

THRESHOLD = 0.8
Groups = list[int]


def windows(text: str) -> set[bytes]:
    """The 8-byte windows of a text."""
    data = text.encode().ljust(8)
    return {data[start : start + 8] for start in range(len(data) - 7)}


Side = Callable[[list[str]], tuple[Callable[[], Any], Callable[[Any], Groups]]]
"""texts → (make signatures, group them)."""


def palate(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    return lambda: np.stack([signature(text) for text in texts]), lambda made: near_duplicates(made, THRESHOLD)


def datasketch(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    from datasketch import MinHash, MinHashLSH

    def group(made: list[Any]) -> Groups:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PLACES)
        first = list(range(len(made)))
        for place, found in enumerate(made):
            alike = [other for other in index.query(found) if found.jaccard(made[other]) >= THRESHOLD]
            first[place] = min((first[other] for other in alike), default=place)
            index.insert(place, found)
        return first

    return lambda: MinHash.bulk((windows(text) for text in texts), num_perm=PLACES, seed=1), group


def rensa(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    from rensa import RMinHash, RMinHashLSH

    def group(made: list[Any]) -> Groups:
        index = RMinHashLSH(threshold=THRESHOLD, num_perm=PLACES, num_bands=32)
        index.insert_many(made)
        first = list(range(len(made)))
        for place, candidates in enumerate(index.query_all(made)):
            earlier = [other for other in candidates if other < place and made[other].jaccard(made[place]) >= THRESHOLD]
            first[place] = min((first[other] for other in earlier), default=place)
        return first

    return lambda: RMinHash.from_token_sets([list(windows(text)) for text in texts], PLACES, 1), group


def rensa_from_hashes(texts: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Groups]]:
    from rensa import RMinHash

    def make() -> Any:
        hashes = [numbers(text) * np.uint64(0x9E3779B97F4A7C15) for text in texts]
        offsets = np.cumsum([0, *map(len, hashes)]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), offsets, PLACES, 1)
        values = np.array(matrix.to_rows(), dtype=np.uint32) * np.uint32(0x9E3779B1)
        return (values >> np.uint32(24)).astype(np.uint8)

    return make, lambda made: near_duplicates(made, THRESHOLD)


SIDES: dict[str, Side] = {
    "palate": palate,
    "datasketch": datasketch,
    "rensa": rensa,
    "rensa from hashes": rensa_from_hashes,
}


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


def scored(texts: list[str], truth: set[tuple[int, int]], side: Side) -> dict[str, float]:
    """Seconds; recall and precision of the rows that have an earlier near-duplicate."""
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
    texts = [
        plain_text("\n".join((record.prompt[-1].content, *map(conversation_text, completions_of(record)))))
        for record in records
    ]
    truth = exact(texts)
    found = {"rows": len(texts), "repeated": len({right for _, right in truth})}
    print(f"{found['rows']:,} texts, of which {found['repeated']:,} are at least 0.8 like an earlier one")
    sides = {}
    for name, side in SIDES.items():
        try:
            figures = sides[name] = scored(texts, truth, side)
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        print(
            f"{name:<18}signatures{figures['signature_seconds']:>8.2f} s  search{figures['search_seconds']:>7.2f} s  "
            f"recall {figures['recall']:.3f}  precision {figures['precision']:.3f}"
        )
    if options.out:
        options.out.write_text(json.dumps({**found, **sides}, indent=2) + "\n")


if __name__ == "__main__":
    main()
