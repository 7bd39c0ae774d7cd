"""Which interactions people should label: three samples, each with the probability that a row is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STRATA: Final = ("uniform", "judge_uncertain", "thumbs_down")
SHARES: Final[Mapping[str, float]] = {"uniform": 0.5, "judge_uncertain": 0.25, "thumbs_down": 0.25}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row that was drawn.

    Attributes:
        probability: that it is in at least one of the samples; 1 / probability is its Horvitz–Thompson weight.
        strata: the samples that it is in. The uniform sample alone needs no weights.
    """

    probability: float
    strata: tuple[str, ...]


def draw(strata: Mapping[str, Collection[str]], size: int, shares: Mapping[str, float], seed: int) -> dict[str, Drawn]:
    """Draw a simple random sample without replacement from each stratum, independently.

    A row in several strata s has the inclusion probability 1 − Π(1 − n_s / N_s), with n_s of N_s rows drawn. The share
    of an empty stratum goes to `uniform`; a stratum with fewer rows than its share is taken as a whole.

    Args:
        strata: name → ids of its rows; `uniform` has all.
        size: rows to draw; a row that is drawn twice counts twice, so there may be fewer. What rounding down the other
            shares leaves goes to `uniform`.
        shares: name → share of `size`.
        seed: of the draws. The same rows and seed give the same sample.
    """
    total = sum(shares.values())
    wanted = {name: int(size * shares.get(name, 0) / total) for name in STRATA}
    wanted["uniform"] = size - sum(wanted[name] for name in STRATA[1:])
    for name in STRATA[1:]:
        if not strata[name]:
            wanted["uniform"] += wanted.pop(name)
    rates, samples = {}, {}
    for name, count in wanted.items():
        ids = strata[name]
        samples[name] = set(order(ids, name, seed)[:count])
        rates[name] = len(samples[name]) / len(ids) if ids else 0.0
    found = {}
    for row in strata["uniform"]:
        within = tuple(name for name, sample in samples.items() if row in sample)
        if within:
            missed = 1.0
            for name in samples:
                missed *= 1 - rates[name] if row in strata[name] else 1
            found[row] = Drawn(1 - missed, within)
    return found


def order(ids: Iterable[str], purpose: str, seed: int) -> Sequence[str]:
    """The ids in a random order that depends on nothing but the ids themselves, the purpose and the seed."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"{seed}\0{purpose}\0{one}".encode()).digest())
