"""Where values lie on a chart: nice ticks, linear and logarithmic scales, and numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from data to pixels.

    Attributes:
        low: smallest value of the axis.
        high: largest value, above `low`.
        start: pixel of `low`.
        end: pixel of `high`; below `start` for an axis that grows upwards.
        ticks: the values that are labelled.
        log: logarithmic; `low` is then above 0.
        root: even in the square root; `low` is then at least 0.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False
    root: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        elif self.root:
            share = (math.sqrt(value) - math.sqrt(self.low)) / (math.sqrt(self.high) - math.sqrt(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def shows(self, value: float | None) -> bool:
        """Whether a value has a place on the axis."""
        if value is None or not math.isfinite(value):
            return False
        return value > 0 if self.log else value >= 0 or not self.root


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that divides `span` into at most `most` steps."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def linear(values: Sequence[float], start: float, end: float, *, most: int = 5) -> Scale:
    """A scale whose ends are ticks and that holds all finite `values`, whole numbers apart where they are whole."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value, or the same again and again
        room = abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
    step = nice_step(high - low, most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """A log scale over the positive finite `values`; ticks at powers of ten, over short ranges also at 2 and 5."""
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
    return Scale(below, above, start, end, tuple(tick for tick in every if below <= tick <= above), log=True)


def square_root(values: Sequence[float], start: float, end: float, *, most: int = 6) -> Scale:
    """A scale from 0, even in √x, over the finite `values` that are not negative; ticks at squares of even steps."""
    high = max((value for value in values if math.isfinite(value)), default=0.0)
    step = nice_step(math.sqrt(high) if high > 0 else 1.0, most)
    most_of = math.ceil((math.sqrt(high) if high > 0 else 1.0) / step - 1e-9)
    ticks = tuple((number * step) ** 2 for number in range(most_of + 1))
    return Scale(0.0, ticks[-1], start, end, ticks, root=True)


def steps(values: Sequence[float], start: float, end: float, *, most: int = 6) -> Scale:
    """A scale of whole steps from the first to the last, which need not be ticks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        low, high = low - 1, high + 1
    step = max(1.0, nice_step(high - low, most))
    step = 5.0 if step == 2.5 else step
    ticks = tuple(number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Scale(low, high, start, end, ticks)


def tick_labels(scale: Scale, *, percent: bool = False) -> list[str]:
    """The labels of a scale's ticks, all with the same number of decimals."""
    if percent:
        digits = _decimals([100 * tick for tick in scale.ticks])
        return [f"{100 * tick:.{digits}f} %".replace("-", "−") for tick in scale.ticks]
    largest = max(map(abs, scale.ticks), default=0.0)
    if scale.log or largest >= 1e5 or 0 < largest < 1e-3:
        return [number(tick) for tick in scale.ticks]
    digits = _decimals(scale.ticks)
    return [
        f"{tick:.{digits}f}".replace("-0." if tick == 0 else "-", "0." if tick == 0 else "−") for tick in scale.ticks
    ]


def _decimals(ticks: Sequence[float]) -> int:
    return next((d for d in range(7) if all(abs(round(t, d) - t) <= 1e-6 * max(1.0, abs(t)) for t in ticks)), 7)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits: `0.6931`, `12.34`, `5e−7`, `1,234,567`; an en dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e9:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(places, digits)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
