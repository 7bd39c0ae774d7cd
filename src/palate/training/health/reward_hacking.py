"""Signs that a margin grows for the wrong reason: with length alone, or without any effect on held-out pairs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from palate.config.stages.health import HealthFields
from palate.text.encode import EncodedGroup
from palate.training.health.degradation import Sign

# With fewer held-out pairs a large correlation is easily chance: of 16, 0.7 comes up once in 400 times.
_FEWEST_PAIRS = 16
# Training margins over which the present one is averaged.
_WINDOW = 10
# A smaller margin, in the loss's units, is no sign whatever its growth; a smaller rise of accuracy is no gain.
_LARGE_MARGIN, _GAIN = 0.5, 0.02
# Above this accuracy there is little left to gain.
_GOOD_ACCURACY = 0.9


class LengthCorrelation:
    """Pearson's correlation of held-out margins with differences of length, from moments summed over ranks."""

    def __init__(self, total: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._total = total
        self._moments = torch.zeros(6, dtype=torch.float64, device=device)

    def see(self, groups: Sequence[EncodedGroup], margins: Tensor) -> None:
        """Margins [G] of groups of two completions, chosen first; groups of weight 0 do not count."""
        lengths = [[int(one.trained.sum()) for one in group.completions] for group in groups]
        difference = margins.new_tensor([chosen - rejected for chosen, rejected in lengths]).double()
        counted = margins.new_tensor([float(group.weight > 0) for group in groups]).double()
        m = margins.detach().double()
        terms = (torch.ones_like(m), m, difference, m * difference, m * m, difference * difference)
        self._moments += torch.stack([(term * counted).sum() for term in terms])

    def take(self) -> float | None:
        """The correlation of what was seen, and begin anew; None where it has no meaning."""
        n, m, d, md, mm, dd = self._total(self._moments.clone()).tolist()
        self._moments.zero_()
        if n < _FEWEST_PAIRS:
            return None
        spread = (n * mm - m * m) * (n * dd - d * d)
        return (n * md - m * d) / math.sqrt(spread) if spread > 1e-12 else None


class MarginsWithoutGain:
    """Compares the growth of the training margin with held-out accuracy from evaluation to evaluation."""

    def __init__(self, limits: HealthFields) -> None:
        self._growth = limits.health_margin_growth
        self._margins: deque[float] = deque(maxlen=_WINDOW)
        # Before the first step policy and reference agree: accuracy is chance, the margin 0.
        self._best, self._margin_at_best = 0.5, 0.0

    def on_step(self, metrics: Mapping[str, float]) -> None:
        if "rewards/margins" in metrics:
            self._margins.append(metrics["rewards/margins"])

    def on_evaluation(self, accuracy: float) -> Iterator[Sign]:
        """`accuracy` of the implied reward on held-out pairs."""
        margin = sum(self._margins) / max(1, len(self._margins))
        if accuracy >= self._best + _GAIN:
            self._best, self._margin_at_best = accuracy, margin
        elif accuracy < _GOOD_ACCURACY and margin > max(_LARGE_MARGIN, self._growth * self._margin_at_best):
            yield Sign(
                "margin_without_gain",
                f"the training margin has grown from {self._margin_at_best:.2f} to {margin:.2f}, but held-out accuracy "
                f"is {accuracy:.0%}, {self._best:.0%} at its best: the model learns the pairs by heart",
                "more diverse pairs from several sources, a check of the labels (palate data inspect), fewer epochs",
            )


def length_signs(correlation: float | None, limits: HealthFields) -> Iterator[Sign]:
    """A correlation beyond the limit, either way."""
    if correlation is not None and abs(correlation) > limits.health_length_correlation:
        longer = "longer" if correlation > 0 else "shorter"
        yield Sign(
            "length_bias",
            f"held-out margins follow length (correlation {correlation:+.2f}): the model prefers {longer} answers",
            "pairs of similar length, pref_loss: sigmoid_norm, r_dpo or simpo, or ld_alpha: 0.5",
        )
