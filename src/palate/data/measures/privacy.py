"""Personal data and secrets in a text, found by patterns and, where there is one, by their check digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        kind: what it is (`email`, `phone`, `iban`, `card`, `ip`, `ssn`, `key`).
        masked: its first characters, the rest hidden: reports must not spread what they warn of.
    """

    kind: str
    masked: str


def _luhn(found: str) -> bool:
    digits = [int(character) for character in found if character.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit if place % 2 == 0 else 2 * digit - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _mod_97(found: str) -> bool:
    plain = "".join(found.split()).upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _own_address(found: str) -> bool:
    """Addresses made for examples are nobody's."""
    domain = found.rpartition("@")[2].lower()
    return not re.fullmatch(
        r"(.*\.)?example(\.(com|org|net))?|.*\.(invalid|test|localhost)|(domain|email)\.com", domain
    )


def _public_ip(found: str) -> bool:
    parts = [int(part) for part in found.split(".")]
    private = parts[0] in (0, 10, 127) or parts[:2] == [192, 168] or (parts[0] == 172 and 16 <= parts[1] <= 31)
    documentation = parts[:3] in ([192, 0, 2], [198, 51, 100], [203, 0, 113])
    return max(parts) <= 255 and not private and not documentation and parts[0] < 224


def _phone(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    # 555-01xx is kept for fiction.
    return 9 <= len(digits) <= 15 and "55501" not in digits and len(set(digits)) > 3


def _always(found: str) -> bool:
    return bool(found)


# What a text must have before a slow pattern is tried: most texts have none of it. Each starts with what can be scanned
# for quickly, and lets through whatever its pattern could match.
_KEY_PARTS: Final = (
    "PRIVATE KEY", "AKIA", "ASIA", "ghp_", "gho_", "ghs_", "ghu_", "xox", "sk-", "AIza", "hf_", "eyJ"
)  # fmt: skip
_HINTS: Final[Mapping[str, re.Pattern[str]]] = {
    "iban": re.compile(r"[A-Z][A-Z]\d\d ?[0-9A-Z]{4}"),
    "card": re.compile(r"\d(?:[ -]?\d){12}"),
    "ssn": re.compile(r"\d\d\d-\d\d-\d{4}"),
    "ip": re.compile(r"\d\.\d{1,3}\.\d{1,3}\.\d"),
    "phone": re.compile(r"\d(?:[ .()-]{0,3}\d){8}"),
}
# Whatever has enough digits, in one scan; the hints then look at that alone.
_NUMBERS = re.compile(r"\d[\d .()-]{6,}")
_PATTERNS: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "key": (
        re.compile(
            r"-----BEGIN (?:RSA |EC |OPENSSH |DSA |PGP )?PRIVATE KEY"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
            r"|\bgh[opsu]_[A-Za-z0-9]{36,}\b"
            r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
            r"|\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}"
            r"|\bAIza[0-9A-Za-z_-]{35}\b"
            r"|\bhf_[A-Za-z]{30,}\b"
            r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
        ),
        _always,
    ),
    "email": (re.compile(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"), _own_address),
    "iban": (re.compile(r"\b[A-Z]{2}\d\d(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?\b"), _mod_97),
    "card": (re.compile(r"(?<![\d.,-])\d{4}[ -]?\d{4,6}[ -]?\d{4,5}(?:[ -]?\d{1,4})?(?![\d-])"), _luhn),
    "ssn": (re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])"), _always),
    "ip": (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]|\.\d)"), _public_ip),
    "phone": (
        re.compile(
            r"(?<![\w.,+-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
            r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-]|\.\d)"
        ),
        _phone,
    ),
}  # fmt: skip


def find_private(text: str) -> list[Finding]:
    """Everything in a text that looks like personal data or a secret, in the order of `_PATTERNS`."""
    return [
        Finding(kind, _masked(match[0]))
        for kind, pattern, confirmed in _possible(text)
        for match in pattern.finditer(text)
        if confirmed(match[0])
    ]


def hide_private(text: str) -> str:
    """The text with everything that `find_private` finds masked, fit for a report."""
    for _, pattern, confirmed in list(_possible(text)):
        text = pattern.sub(partial(_hidden, confirmed), text)
    return text


def _hidden(confirmed: Callable[[str], bool], match: re.Match[str]) -> str:
    return _masked(match[0]) if confirmed(match[0]) else match[0]


def _possible(text: str) -> Iterator[tuple[str, re.Pattern[str], Callable[[str], bool]]]:
    """The kinds whose slow pattern is worth a try."""
    numbers = "\n".join(_NUMBERS.findall(text))
    for kind, (pattern, confirmed) in _PATTERNS.items():
        if kind == "key":
            possible = any(part in text for part in _KEY_PARTS)
        elif kind == "email":
            possible = "@" in text
        else:
            possible = bool(_HINTS[kind].search(text if kind == "iban" else numbers))
        if possible:
            yield kind, pattern, confirmed


def _masked(found: str) -> str:
    return found[:4] + "…" if len(found) > 4 else "…"
