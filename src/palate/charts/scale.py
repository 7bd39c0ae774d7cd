"""Axis scales: from values to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.charts.text import number

ScaleName: TypeAlias = Literal["linear", "sqrt", "log", "steps"]
_TRANSFORMS: Mapping[str, Callable[[float], float]] = {"linear": float, "sqrt": math.sqrt, "log": math.log}


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from values to pixels.

    Attributes:
        low: smallest value of the axis; above 0 for `log`, at least 0 for `sqrt`.
        high: largest value, above `low`.
        start: pixel of `low`.
        end: pixel of `high`; smaller than `start` on an axis that grows upwards.
        ticks: the labelled values.
        kind: the transform in which the axis is even: `linear`, `sqrt` or `log`.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    kind: str = "linear"

    def __call__(self, value: float) -> float:
        transform = _TRANSFORMS[self.kind]
        low, high = transform(self.low), transform(self.high)
        return self.start + (transform(value) - low) / (high - low) * (self.end - self.start)

    def shows(self, value: float | None) -> bool:
        """Whether the value is finite and within the domain of the scale."""
        if value is None or not math.isfinite(value):
            return False
        return value > 0 if self.kind == "log" else value >= 0 or self.kind != "sqrt"

    def ends(self, low: float | None, high: float | None) -> tuple[float, float] | None:
        """The pixels of an interval, clipped to the axis; None unless it is finite and has a width."""
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low >= high:
            return None
        return self(max(low, self.low)), self(min(high, self.high))


def scale_over(name: ScaleName, values: Sequence[float], start: float, end: float) -> Scale:
    """The scale `name` over finite values."""
    return {"linear": linear, "sqrt": square_root, "log": logarithmic, "steps": steps}[name](values, start, end)


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that divides `span` into at most `most` steps."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def linear(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that holds all finite `values` between two ticks."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # all values are equal
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = nice_step(high - low, 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(count * step for count in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """A log scale over the positive finite `values`; ticks at powers of ten, on short axes also at 2 and 5."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low, high = min(positive), max(positive)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    stride = max(1, (last - first) // 5)
    every = [factor * 10.0**power for power in range(first, last + 1, stride) for factor in factors]
    below = max((tick for tick in every if tick <= low * (1 + 1e-9)), default=10.0**first)
    above = min((tick for tick in every if tick >= high * (1 - 1e-9)), default=10.0**last)
    if below == above:
        above = below * 10
    return Scale(below, above, start, end, tuple(tick for tick in every if below <= tick <= above), "log")


def square_root(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale from 0 that is even in √x, over the finite `values`; ticks at squares of even steps."""
    root = math.sqrt(max([0.0, *(value for value in values if math.isfinite(value))])) or 1.0
    step = nice_step(root, 6)
    ticks = tuple((count * step) ** 2 for count in range(math.ceil(root / step - 1e-9) + 1))
    return Scale(0.0, ticks[-1], start, end, ticks, "sqrt")


def steps(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale from the first to the last training step, with ticks at whole numbers."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        low, high = low - 1, high + 1
    step = max(1.0, nice_step(high - low, 6))
    step = 5.0 if step == 2.5 else step
    ticks = tuple(count * step for count in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Scale(low, high, start, end, ticks)


def tick_labels(scale: Scale, *, percent: bool = False) -> list[str]:
    """The labels of a scale's ticks, all with the same number of decimals."""
    largest = max(map(abs, scale.ticks), default=0.0)
    if not percent and (scale.kind == "log" or largest >= 1e5 or 0 < largest < 1e-3):
        return [number(tick) for tick in scale.ticks]
    shown = [100 * tick if percent else tick for tick in scale.ticks]
    digits = next((d for d in range(7) if all(abs(round(t, d) - t) <= 1e-6 * max(1.0, abs(t)) for t in shown)), 7)
    unit = " %" if percent else ""
    # Adding 0 turns −0.0 into 0.0.
    return [f"{round(tick, digits) + 0.0:.{digits}f}{unit}".replace("-", "−") for tick in shown]
