"""Personal data, secrets, insults and threats in a text, by patterns, check digits and word lists."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from palate.data.measures.words import tokens


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        kind: its kind (`email`, `phone`, `iban`, `card`, `ip`, `ssn`, `key`).
        masked: its first characters only, because reports must not repeat private data.
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
    """Whether the address is not one reserved for examples."""
    domain = found.rpartition("@")[2].lower()
    return not re.fullmatch(
        r"(.*\.)?example(\.(com|org|net))?|.*\.(invalid|test|localhost)|(domain|email)\.com", domain
    )


def _ip_address(found: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(found)
    except ValueError:  # a part above 255 or with leading zeros
        return None


def _is_ip(found: str) -> bool:
    return _ip_address(found) is not None and any(map(str.isdigit, found))  # a::b is more often code


def _public_ip(found: str) -> bool:
    address = _ip_address(found)
    return address is not None and address.is_global and not address.is_multicast


def _phone(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    # 555-01xx is reserved for fiction.
    return 9 <= len(digits) <= 15 and "55501" not in digits and len(set(digits)) > 3


def _always(found: str) -> bool:
    return bool(found)


# Cheap conditions that a text must meet before a slow pattern is tried; most texts meet none. Each is met by every text
# that its pattern can match.
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
# Parts of a text with enough digits, found in one scan; the hints then search only these.
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
    """Personal data and secrets in a text, in the order of `_PATTERNS`."""
    return [
        Finding(kind, _masked(match[0]))
        for kind, pattern, confirmed in _possible(text)
        for match in pattern.finditer(text)
        if confirmed(match[0])
    ]


def hide_private(text: str) -> str:
    """The text with everything that `find_private` finds masked."""
    for _, pattern, confirmed in list(_possible(text)):
        text = _replaced(text, pattern, confirmed)
    return text


# Redaction replaces whatever may be private: examples and addresses of a home network too, and forms that are too often
# something else to be reported. Kind, a part of every match, pattern, check.
_NATIONAL_PHONE = re.compile(r"(?<![\w.,+-])0\d{1,4}[ /-]\d{3,5}(?:[ /-]?\d{2,5}){0,2}(?![\w-]|\.\d)")
_ALSO_REDACTED: Final = (
    ("key", "sk-", re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"), _always),
    ("key", "palate-", re.compile(r"\bpalate-[A-Za-z0-9_-]{40,}"), _always),  # of our own gateway
    ("email", "@", _PATTERNS["email"][0], _always),
    ("ip", ".", _PATTERNS["ip"][0], _is_ip),
    ("ip", ":", re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{3,39}(?![\w:])"), _is_ip),
    ("phone", "0", _NATIONAL_PHONE, lambda found: sum(map(str.isdigit, found)) >= 8),
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def redact(text: str) -> str:
    """The text with `[email]`, `[card]` … in place of private data, so that nothing of it is left.

    More is replaced than `find_private` finds, because here a false alarm does less harm than a miss.
    """
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub("[key]", text)
    found = list(_possible(text))
    found += [(kind, pattern, confirmed) for kind, part, pattern, confirmed in _ALSO_REDACTED if part in text]
    for kind, pattern, confirmed in found:
        text = _replaced(text, pattern, confirmed, f"[{kind}]")
    return text


def _replaced(text: str, pattern: re.Pattern[str], confirmed: Callable[[str], bool], name: str = "") -> str:
    """The text with the name, or without one the masked match, in place of each confirmed match."""
    return pattern.sub(lambda match: (name or _masked(match[0])) if confirmed(match[0]) else match[0], text)


def _possible(text: str) -> Iterator[tuple[str, re.Pattern[str], Callable[[str], bool]]]:
    """The kinds whose cheap condition the text meets."""
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


# Stems are matched with their usual endings. Words with mostly harmless uses ("stupid", "damn", "die") are left out.
TOXIC_LANGUAGES: Final = ("en", "de", "fr", "es", "it", "pt")
"""ISO 639-1 codes of the languages in the list of insults."""

_STEMS = " ".join(
    (
        "fuck motherfuck bullshit shithead asshole arsehole bastard bitch cunt dickhead whore slut twat wanker",
        "faggot tranny nigger nigga kike gook wetback raghead towelhead retard",
        "arschloch hurensohn wichser fotze missgeburt kanake schwuchtel",
        "connard salope enculé putain pédé bougnoule",
        "puta cabrón maricón gilipollas hijoputa pendejo stronzo vaffanculo puttana frocio caralho viado",
    )
).split()
# The slow pattern is tried only on texts with one of the words before it.
_PHRASES = tuple(
    (frozenset(words.split()), re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE))
    for words, pattern in (
        ("kill", r"kill (?:your|him|her|them)sel(?:f|ves)"),
        (
            "kill rape stab shoot beat",
            r"(?:i|we)(?:'ll| will| am going to|'m going to) (?:kill|rape|stab|shoot|beat up) (?:you|him|her|them)",
        ),
        ("die killed raped shot", r"you (?:should|deserve to) (?:die|be (?:killed|raped|shot))"),
        ("gas exterminate lynch", r"(?:gas|exterminate|lynch) (?:the|all) \w+"),
        ("country", r"go back to your (?:own )?country"),
        ("subhuman human", r"sub-?human (?:scum|filth|trash)"),
        (
            "worthless disgusting filthy",
            r"(?:worthless|disgusting|filthy) (?:piece of (?:shit|trash|garbage)|pigs?|vermin|animals?)",
        ),
    )
)
_ENDINGS = ("", "s", "es", "er", "ers", "ed", "ing", "in", "y", "face", "head", "n", "en")
_FORMS = frozenset(stem + ending for stem in _STEMS for ending in _ENDINGS)


def toxic_words(text: str, words: Collection[str] | None = None) -> list[str]:
    """Insults, slurs and threats in a text, in lower case: single words in order, then phrases.

    Args:
        words: its `tokens`, if they are known already.
    """
    words = tokens(text) if words is None else words
    found = [] if _FORMS.isdisjoint(words) else [word for word in words if word in _FORMS]
    for hints, pattern in _PHRASES:
        if not hints.isdisjoint(words):
            found += [match[0].lower() for match in pattern.finditer(text)]
    return found
