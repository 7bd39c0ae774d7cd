"""A verdict from the probabilities of the letters, in place of the letter that was sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.models.generation.endpoints.completion import TokenChoice
from palate.records import Verdict

LEAST_MASS = 0.9
"""Probability that the spellings of the verdicts must have together; below it, the model meant something else."""

TOP = 20
"""Log-probabilities asked for at each place, the most that the OpenAI API gives."""

_ROUNDING = 1e-3
_DECORATION = " \t\n\r\"'`*([{“”‘’.:Ġ▁"


def verdict_of_tokens(tokens: Sequence[TokenChoice], *, ties: bool) -> Verdict:
    """The likelier verdict, and the probability that left is better, at the first place with a word.

    p(left) = (P(A) + ½ P(tie)) / (P(A) + P(B) + P(tie)), each over all spellings of the verdict (`A`, ` a`, `"A`).

    Returns:
        `unparsed` with the reason if the spellings have less than 0.9 of the probability, or if the values are no
        probabilities.
    """
    place = _first_word(tokens)
    if place is None:
        return Verdict("unparsed", "no log-probabilities in the reply")
    alternatives = dict(place.top) or {place.token: place.logprob}
    alternatives.setdefault(place.token, place.logprob)
    masses = {"a": 0.0, "b": 0.0, "tie": 0.0}
    for token, logprob in alternatives.items():
        if math.isnan(logprob) or logprob > _ROUNDING:
            return Verdict("unparsed", f"{logprob} is no log-probability")
        word = token.strip(_DECORATION).casefold()
        if word in masses and (ties or word != "tie"):
            masses[word] += math.exp(min(0.0, logprob))
    mass = math.fsum(masses.values())
    if mass > 1 + _ROUNDING:
        return Verdict("unparsed", f"the probabilities of the verdicts add up to {mass:.3f}")
    if mass < LEAST_MASS:
        return Verdict("unparsed", f"the verdicts have {mass:.3f} of the probability, less than {LEAST_MASS}")
    left, right, tie = (masses[word] / mass for word in ("a", "b", "tie"))
    probability = min(1.0, max(0.0, left + tie / 2))
    reason = f"P(A)={left:.4f} P(B)={right:.4f}" + (f" P(tie)={tie:.4f}" if ties else "")
    if left == right or (tie >= left and tie >= right):
        return Verdict("tie", reason, probability)
    return Verdict("left" if left > right else "right", reason, probability)


def _first_word(tokens: Sequence[TokenChoice]) -> TokenChoice | None:
    """The first token with a letter, after the thinking if there is some."""
    text = "".join(token.token for token in tokens)
    end = text.rfind("</think>")
    after = end + len("</think>") if end >= 0 else 0
    position = 0
    for token in tokens:
        if position >= after and token.token.strip(_DECORATION):
            return token
        position += len(token.token)
    return None
