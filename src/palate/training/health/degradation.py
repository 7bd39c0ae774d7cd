"""Answers to fixed prompts as numbers, and what of those numbers is a sign that the model is degrading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from palate.config.stages.health import HealthFields
from palate.stats.repetition import ends_in_loop

# A loop: the same 1 … 8 tokens at least this often in a row, at the end of what was written.
_LONGEST_UNIT, _REPEATS, _LOOP_TOKENS = 8, 4, 8


@dataclass(frozen=True, slots=True)
class Vitals:
    """Means over answers to the fixed prompts.

    Attributes:
        length: tokens of an answer.
        distinct_2: distinct pairs of neighbouring tokens as a share of all, within an answer.
        loops: share of answers that end in a loop.
        ended: share of answers that end their turn within the limit.
        entropy: −log π of the sampled tokens, nats per token.
        kl: KL(π‖π_ref) of a whole answer, in nats: the mean of log π(y|x) − log π_ref(y|x) over the answers, which π
            sampled. An estimate, and of few answers, so it can be below 0. None without a reference.
        kl_per_token: the same sum over the number of sampled tokens, in nats.
    """

    length: float
    distinct_2: float
    loops: float
    ended: float
    entropy: float
    kl: float | None = None
    kl_per_token: float | None = None

    def metrics(self) -> dict[str, float]:
        """As they are logged; what was not measured is left out."""
        return {f"health/{name}": value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def logged(cls, metrics: Mapping[str, float]) -> Vitals | None:
        """What `metrics` gave, from a row of a log; None where the row has none."""
        found = {name: metrics.get(f"health/{name}") for name in cls.__dataclass_fields__}
        return cls(**found) if found["entropy"] is not None else None  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that looks wrong: a stable name, what was seen, and the remedy."""

    name: str
    message: str
    remedy: str


def vitals(
    answers: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    logps: Sequence[float],
    ref_logps: Sequence[float] | None = None,
) -> Vitals:
    """Of answers that the policy sampled, at temperature 1 and from all tokens.

    Args:
        answers: token ids; the stop token, where there is one, is an answer's last.
        stop_ids: what ends an answer.
        logps: log π(y|x) of each answer under the policy, in nats.
        ref_logps: the same under the reference.
    """
    stops = set(stop_ids)
    bodies = [answer[:-1] if answer and answer[-1] in stops else answer for answer in answers]
    n = max(1, len(answers))
    tokens = max(1, sum(map(len, answers)))
    above = None if ref_logps is None else sum(logps) - sum(ref_logps)
    return Vitals(
        length=sum(map(len, answers)) / n,
        distinct_2=sum(map(distinct_2, bodies)) / n,
        loops=sum(map(loops, bodies)) / n,
        ended=sum(bool(answer) and answer[-1] in stops for answer in answers) / n,
        entropy=-sum(logps) / tokens,
        kl=None if above is None else above / n,
        kl_per_token=None if above is None else above / tokens,
    )


def distinct_2(ids: Sequence[int]) -> float:
    """Distinct neighbouring pairs as a share of all; 1 where there is no pair."""
    pairs = list(pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def loops(ids: Sequence[int]) -> bool:
    """Whether the last tokens are a unit of up to 8 tokens, at least 4 times in a row and at least 8 tokens long."""
    return ends_in_loop(ids, longest=_LONGEST_UNIT, times=_REPEATS, least=_LOOP_TOKENS)


def signs(now: Vitals, before: Vitals, limits: HealthFields) -> Iterator[Sign]:
    """What is wrong with the answers of now beside those of the reference."""
    milder = "a lower learning_rate, fewer steps (num_train_epochs: 0.5), a higher pref_beta or kl_coef"
    if now.kl is not None and now.kl_per_token is not None and now.kl_per_token > limits.health_max_kl:
        yield Sign(
            "far_from_reference",
            f"KL to the reference is {now.kl_per_token:.2f} nats per token, {now.kl:.1f} per answer",
            milder,
        )
    if now.loops > before.loops + limits.health_max_loops:
        yield Sign(
            "repetition",
            f"{now.loops:.0%} of sampled answers end in a loop, {before.loops:.0%} of the reference's",
            f"{milder}; look for repetition in the chosen answers",
        )
    elif now.distinct_2 < limits.health_min_distinct * before.distinct_2:
        yield Sign(
            "repetition",
            f"distinct pairs of tokens fell from {before.distinct_2:.0%} to {now.distinct_2:.0%}",
            f"{milder}; look for repetition in the chosen answers",
        )
    if now.ended < before.ended - limits.health_max_unended:
        yield Sign(
            "turns_do_not_end",
            f"{now.ended:.0%} of sampled answers end their turn, {before.ended:.0%} of the reference's",
            "look at the ends of the chosen answers in data.json (is the end of turn trained?), a lower learning_rate",
        )
    ratio, limit = now.length / max(before.length, 1.0), limits.health_length_ratio
    if ratio > limit or ratio < 1 / limit:
        yield Sign(
            "length_drift",
            f"sampled answers have {now.length:.0f} tokens, the reference's {before.length:.0f}",
            "pref_loss: sigmoid_norm or simpo, ld_alpha: 0.5, or pairs of similar length",
        )
    if now.entropy < limits.health_min_entropy * before.entropy:
        yield Sign(
            "entropy_collapse",
            f"entropy fell from {before.entropy:.2f} to {now.entropy:.2f} nats per token",
            f"{milder}; more diverse prompts",
        )
