"""Samples a mixture from several sources, without repetition and independent of the order of rows."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence

from palate.errors import DataError

NOT_DRAWN = "not_drawn"
"""Drop reason of records that a mixture leaves out."""


def counts(
    sizes: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    temperature: float | None = None,
    caps: Sequence[int | None] | None = None,
    total: int | None = None,
) -> list[int]:
    """Number of records to take from each source: as many as possible in the given proportions, without repetition.

    Args:
        weights: proportions; they need not sum to 1.
        temperature: instead of weights, proportions size^(1/temperature): 1 keeps the sizes, large values equalise.
        caps: maximum number for each source; None for no limit.
        total: maximum number in total; without weights and temperature, in proportion to the sizes after caps.
    """
    bad_cap = next((cap for cap in caps or () if cap is not None and cap < 0), None)
    if bad_cap is not None:
        raise DataError(f"a cap of the mixture is {bad_cap}; it must be a number of rows")
    limits = [size if cap is None else min(size, cap) for size, cap in zip(sizes, caps or [None] * len(sizes))]
    if weights is None and temperature is None:
        if total is None or total >= sum(limits):
            return limits
        weights = limits
    if weights is not None and temperature is not None:
        raise DataError("a mixture has weights or a temperature, not both")
    if weights is None:
        if temperature is None or not temperature > 0:
            raise DataError(f"temperature is {temperature}; it must be above 0")
        # Divided by the largest, so that no power overflows.
        weights = [max((size / max(sizes)) ** (1 / temperature), sys.float_info.min) if size else 0.0 for size in sizes]
    empty = next((index for index, limit in enumerate(limits) if limit == 0), None)
    if empty is not None:
        raise DataError(f"source {empty + 1} of the mixture has no row to give")
    bad = next((weight for weight in weights if not (math.isfinite(weight) and weight > 0)), None)
    if bad is not None:
        raise DataError(f"a weight of the mixture is {bad}; weights must be above 0 (leave a source out instead)")
    # The source that runs out first limits all others.
    scale = min(limit / weight for limit, weight in zip(limits, weights))
    if total is None or scale * sum(weights) <= total:
        return [min(limit, round(scale * weight)) for limit, weight in zip(limits, weights)]
    exact = [total * weight / sum(weights) for weight in weights]
    taken = [math.floor(share) for share in exact]
    # The remainder goes to the sources with the largest rounding loss.
    for index in sorted(range(len(taken)), key=lambda index: taken[index] - exact[index])[: total - sum(taken)]:
        taken[index] += 1
    return taken


def draw(
    sources: Sequence[Sequence[str]],
    weights: Sequence[float] | None = None,
    *,
    temperature: float | None = None,
    caps: Sequence[int | None] | None = None,
    seed: int = 0,
) -> list[list[bool]]:
    """Sample the mixture: for each record of each source, by its id, whether it is taken.

    Records are ranked by a hash of seed and id, so new rows in one source do not change the sample of another.
    """
    wanted = counts([len(ids) for ids in sources], weights, temperature=temperature, caps=caps)
    taken: list[list[bool]] = []
    for ids, count in zip(sources, wanted):
        chosen = [count >= len(ids)] * len(ids)
        if count < len(ids):
            for index in sorted(range(len(ids)), key=lambda index: drawn_key(seed, ids[index]))[:count]:
                chosen[index] = True
        taken.append(chosen)
    return taken


def drawn_key(seed: int, text: str) -> bytes:
    """A pseudo-random sort key for a text, 8 bytes: the same on every machine and independent of other texts."""
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()
