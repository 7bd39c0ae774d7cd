"""Settings of decoding and the seed of each sample; without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decoding:
    """Settings of decoding.

    Attributes:
        max_new_tokens: maximum length of an answer.
        temperature: 0 takes the likeliest token; 1 samples from the model's own distribution.
        top_p: sample from the likeliest tokens with this total probability (nucleus sampling, 1904.09751).
        seed: seed of the sampling.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def sampling_seed(seed: int, *names: object) -> int:
    """A seed that depends only on a run's seed and a sample's identifiers (prompt, step, index)."""
    digest = hashlib.sha256("\0".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
