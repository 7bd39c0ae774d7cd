"""Colours of the pages: every text can be read on its ground, by the contrast formula of WCAG 2.2."""

from __future__ import annotations

import re

import pytest

from palate.web.static_files import static_files

# Text on ground.
PAIRS = (
    ("ink", "paper"), ("ink", "sheet"), ("ink", "tint"), ("soft", "paper"), ("soft", "sheet"), ("soft", "tint"),
    ("accent", "paper"), ("accent", "sheet"), ("on-accent", "accent"), ("bad", "bad-tint"), ("good", "good-tint"),
    ("paper", "ink"), ("code-keyword", "tint"), ("code-string", "tint"), ("code-number", "tint"),
    ("code-comment", "tint"), ("code-name", "tint"), ("bad", "tint"), ("good", "tint"), ("bad", "sheet"),
    ("warn", "warn-tint"), ("warn", "sheet"), ("warn", "paper"), ("soft", "tint"),
)  # fmt: skip
MODES = ("light", "dark")


def colours(mode: str) -> dict[str, str]:
    """The variables of both style sheets as a browser resolves them in a mode."""
    found: dict[str, str] = {}
    for name in ("charts.css", "style.css"):
        sheet = static_files()[name].content.decode()
        dark = "".join(re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{([^}]*)\}", sheet))
        light = re.sub(r"@media[^{]*\{\s*:root \{[^}]*\}\s*\}", "", sheet)
        for part in (light, dark)[: 1 + (mode == "dark")]:
            found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
    return found


def luminance(colour: str) -> float:
    """Relative luminance of sRGB."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: str, ground: str) -> float:
    darker, lighter = sorted((luminance(text), luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the known example of just too little


@pytest.mark.parametrize("mode", MODES)
def test_every_text_has_enough_contrast(mode: str) -> None:
    found = colours(mode)
    poor = {
        f"{text} on {ground}": round(value, 2)
        for text, ground in PAIRS
        if (value := contrast(found[text], found[ground])) < 4.5
    }
    assert poor == {}


@pytest.mark.parametrize("mode", MODES)
def test_borders_of_inputs_are_visible(mode: str) -> None:
    found = colours(mode)
    assert contrast(found["border"], found["paper"]) >= 3
    assert contrast(found["border"], found["sheet"]) >= 3


def test_dark_differs_from_light() -> None:
    assert colours("light")["paper"] != colours("dark")["paper"]
