"""What health checks measure, and the one table of limits and remedies that the values are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from palate.config.stages.health import HealthFields
from palate.stats.repetition import ends_in_loop

WINDOW = 20
"""Steps over which losses and log-probabilities are compared."""

# A loop: the same 1 … 8 tokens, at least 4 times in a row and at least 8 tokens long, at the end of an answer.
_LONGEST_UNIT, _REPEATS, _LOOP_TOKENS = 8, 4, 8
# A smaller training margin, in the loss's units, is never a finding.
_LARGE_MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """One problem that was found.

    Attributes:
        step: the optimiser step.
        name: a stable name (`loss_spike`, `chosen_falls` …).
        severity: `warning` or `error`.
        message: the problem, with numbers.
        remedy: what to try.
    """

    step: int
    name: str
    severity: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class HealthMetrics:
    """Means over sampled answers to the fixed prompts.

    Attributes:
        length: tokens of an answer.
        distinct_2: distinct pairs of neighbouring tokens as a share of all, within an answer.
        loops: share of answers that end in a loop.
        ended: share of answers that end their turn within the limit.
        entropy: −log π of the sampled tokens, nats per token.
        kl: KL(π‖π_ref) in nats per answer: the mean of log π(y|x) − log π_ref(y|x) over answers sampled from π. As an
            estimate from few answers it can be below 0. None without a reference.
        kl_per_token: the same sum over the number of sampled tokens, in nats.
    """

    length: float
    distinct_2: float
    loops: float
    ended: float
    entropy: float
    kl: float | None = None
    kl_per_token: float | None = None

    def to_log(self) -> dict[str, float]:
        """The metrics by the names under which they are logged."""
        return {f"health/{name}": value for name, value in asdict(self).items() if value is not None}


def measure_answers(
    answers: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    logps: Sequence[float],
    ref_logps: Sequence[float] | None = None,
) -> HealthMetrics:
    """The metrics of answers that the policy sampled at temperature 1 from its whole distribution.

    Args:
        answers: token ids; a stop token is the last one of its answer.
        stop_ids: tokens that end an answer.
        logps: log π(y|x) of each answer under the policy, in nats.
        ref_logps: the same under the reference.
    """
    stops = set(stop_ids)
    bodies = [answer[:-1] if answer and answer[-1] in stops else answer for answer in answers]
    n = max(1, len(answers))
    tokens = max(1, sum(map(len, answers)))
    log_ratio = None if ref_logps is None else sum(logps) - sum(ref_logps)
    return HealthMetrics(
        length=sum(map(len, answers)) / n,
        distinct_2=sum(map(distinct_2, bodies)) / n,
        loops=sum(map(loops, bodies)) / n,
        ended=sum(bool(answer) and answer[-1] in stops for answer in answers) / n,
        entropy=-sum(logps) / tokens,
        kl=None if log_ratio is None else log_ratio / n,
        kl_per_token=None if log_ratio is None else log_ratio / tokens,
    )


def distinct_2(ids: Sequence[int]) -> float:
    """Distinct neighbouring pairs as a share of all; 1 where there is no pair."""
    pairs = list(pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def loops(ids: Sequence[int]) -> bool:
    """Whether the last tokens are a unit of up to 8 tokens, at least 4 times in a row and at least 8 tokens long."""
    return ends_in_loop(ids, longest=_LONGEST_UNIT, times=_REPEATS, least=_LOOP_TOKENS)


# ---- the table

Direction: TypeAlias = Literal["above", "below -", "rises by", "falls by", "below share", "by factor", "grows by"]


@dataclass(frozen=True, slots=True)
class HealthRule:
    """One row of the table.

    Attributes:
        finding: its name.
        metric: name of the value that is compared.
        direction: how the value, against the reference's, must pass the threshold to be a finding.
        limit: the config key of the threshold, or a number.
        message: with `{metric}` for a value and `{reference/metric}` for the reference's.
        remedy: what to try; `{beta}` is a config key that only losses with a reference have.
        once: whether it is reported only once in a run.
    """

    finding: str
    metric: str
    direction: Direction
    limit: str | float
    message: str
    remedy: str
    once: bool = True

    def exceeded(self, value: float, reference: float, limit: float) -> bool:
        """Whether the value is a finding; never if it, or a reference that it is compared with, is NaN."""
        match self.direction:
            case "above":
                return value > limit
            case "below -":
                return value < -limit
            case "rises by":
                return value > reference + limit
            case "falls by":
                return value < reference - limit
            case "below share":
                return value < limit * reference
            case "by factor":
                return value > limit * max(reference, 1.0) or value < max(reference, 1.0) / limit
            case "grows by":
                return value > max(limit * reference, _LARGE_MARGIN)


_MILDER = "a lower learning_rate, fewer steps (num_train_epochs: 0.5), a higher pref_beta or kl_coef"
_NO_LENGTH_BIAS = "pairs of similar length, pref_loss: sigmoid_norm, r_dpo or simpo, or ld_alpha: 0.5"
_CORRELATED = "held-out margins follow length (correlation {health/length_correlation:+.2f}): the model prefers "
_NO_REPETITION = f"{_MILDER}; look for repetition in the chosen answers"

RULES = (
    HealthRule(
        *("loss_spike", "loss_deviations", "above", "health_loss_spike"),
        f"loss {{loss:.3f}} after a median of {{loss_median:.3f}} over {WINDOW} steps",
        "learning_rate: 1e-7, {beta}max_grad_norm: 0.5; look at the rows of this step",
        once=False,
    ),
    HealthRule(
        *("chosen_falls", "chosen_fall", "above", "health_max_chosen_fall"),
        f"log-probability of the chosen answers is {{chosen_fall:.1f}} nats below the reference over {WINDOW} steps: "
        "the margin grows because rejected falls faster",
        "pref_ftx: 0.1 (an SFT term), pref_loss: dpop, a higher pref_beta, or fewer steps",
    ),
    HealthRule(
        *("no_reward", "step_unrewarded", "above", 1 - 1e-9),
        "every reward gave None for every answer of a step: nothing is learned from it",
        "a reward that scores these rows, or leave them out of the dataset",
    ),
    HealthRule(
        *("length_bias", "health/length_correlation", "above", "health_length_correlation"),
        _CORRELATED + "longer answers",
        _NO_LENGTH_BIAS,
    ),
    HealthRule(
        *("length_bias", "health/length_correlation", "below -", "health_length_correlation"),
        _CORRELATED + "shorter answers",
        _NO_LENGTH_BIAS,
    ),
    HealthRule(
        *("margin_without_gain", "stalled_margin", "grows by", "health_margin_growth"),
        "the training margin has grown from {reference/stalled_margin:.2f} to {stalled_margin:.2f}, but held-out "
        "accuracy is {accuracy:.0%}, {best_accuracy:.0%} at its best: the model learns the pairs by heart",
        "more diverse pairs from several sources, a check of the labels (palate data inspect), fewer epochs",
    ),
    HealthRule(
        *("far_from_reference", "health/kl_per_token", "above", "health_max_kl"),
        "KL to the reference is {health/kl_per_token:.2f} nats per token, {health/kl:.1f} per answer",
        _MILDER,
    ),
    HealthRule(
        *("repetition", "health/loops", "rises by", "health_max_loops"),
        "{health/loops:.0%} of sampled answers end in a loop, {reference/health/loops:.0%} of the reference's",
        _NO_REPETITION,
    ),
    HealthRule(
        *("repetition", "health/distinct_2", "below share", "health_min_distinct"),
        "distinct pairs of tokens fell from {reference/health/distinct_2:.0%} to {health/distinct_2:.0%}",
        _NO_REPETITION,
    ),
    HealthRule(
        *("turns_do_not_end", "health/ended", "falls by", "health_max_unended"),
        "{health/ended:.0%} of sampled answers end their turn, {reference/health/ended:.0%} of the reference's",
        "look at the ends of the chosen answers in data.json (is the end of turn trained?), a lower learning_rate",
    ),
    HealthRule(
        *("length_drift", "health/length", "by factor", "health_length_ratio"),
        "sampled answers have {health/length:.0f} tokens, the reference's {reference/health/length:.0f}",
        "pref_loss: sigmoid_norm or simpo, ld_alpha: 0.5, or pairs of similar length",
    ),
    HealthRule(
        *("entropy_collapse", "health/entropy", "below share", "health_min_entropy"),
        "entropy fell from {reference/health/entropy:.2f} to {health/entropy:.2f} nats per token",
        f"{_MILDER}; more diverse prompts",
    ),
)


def exceeded(
    values: Mapping[str, float], reference: Mapping[str, float], limits: HealthFields
) -> Iterator[tuple[HealthRule, str, str]]:
    """The rules that the values violate, each with its message and remedy; a value that is missing violates none.

    Args:
        values: metric → value.
        reference: metric → the value that it is compared with, where the rule has one.
        limits: the thresholds.
    """
    beta = "pref_beta: 0.2, " if "ref_logps/chosen" in values else ""
    shown = {**values, **{f"reference/{name}": value for name, value in reference.items()}, "beta": beta}
    for rule in RULES:
        limit = float(getattr(limits, rule.limit)) if isinstance(rule.limit, str) else rule.limit
        if rule.exceeded(values.get(rule.metric, math.nan), reference.get(rule.metric, math.nan), limit):
            yield rule, rule.message.format_map(shown), rule.remedy.format_map(shown)
