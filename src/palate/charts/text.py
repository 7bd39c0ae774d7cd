"""Numbers and names as charts and pages write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

# Characters that a reader cannot see, or that change the direction of the text around them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_JOINERS = {"\u200d", "\u200c"}  # emoji and Indic scripts need them


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits: `0.6931`, `12.34`, `5e−7`, `1,234,567`; an en dash for None."""
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
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, digits)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign: `+4.2`, `−0.31`, `0`."""
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def amount(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 task`, `1,234 tasks`; the plural ends in s unless another one is given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def counts_text(counts: Mapping[str, int]) -> str:
    """`first 1,234, second 56`; empty for fewer than two."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) if len(counts) > 1 else ""


def by_endpoint(verb: str, counts: Mapping[str, int], on_progress: Callable[[str], None]) -> None:
    """Say how many requests each of several endpoints has answered: `answered by URL 1,234, URL 56`."""
    if text := counts_text(counts):
        on_progress(f"{verb} by {text}")


def percent(share: float | None) -> str:
    """A share of 1 as `85.8 %`, `−2.0 %`; an en dash for None."""
    if share is None:
        return "–"
    return f"{_points(share)} %"


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}".replace("-", "−")  # adding 0 turns −0.0 into 0.0


def p_value(p: float) -> str:
    """`0.031`, or `< 0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def interval_text(low: float | None, high: float | None, *, as_percent: bool = False) -> str:
    """`78.5 to 91.0 %` or `1.02 to 1.4`; empty unless both ends are finite."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if as_percent:
        return f"{_points(low)} to {_points(high)} %"
    return f"{number(low, 3)} to {number(high, 3)}"


def estimate_text(value: float | None, low: float | None, high: float | None, *, as_percent: bool = False) -> str:
    """A value with its interval: `0.61 (0.55 to 0.66)`; without one where an end is missing or both are equal."""
    within = "" if low == high else interval_text(low, high, as_percent=as_percent)
    text = percent(value) if as_percent else number(value, 3 if within else 4)
    return f"{text} ({within})" if within else text


def visible(text: object) -> str:
    """Text with control, zero-width and direction-changing characters shown as `⟦U+202E⟧`."""

    def show(match: re.Match[str]) -> str:
        return match[0] if match[0] in _JOINERS else f"⟦U+{ord(match[0]):04X}⟧"

    return _INVISIBLE.sub(show, str(text).encode("utf-8", "replace").decode("utf-8"))


def shortened(text: str, most: int) -> str:
    """Text of at most `most` characters, the middle left out of a longer one."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"
