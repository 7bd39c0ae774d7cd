"""Personal data, secrets, insults and threats are found, look-alikes are not, and private data is masked."""

from __future__ import annotations

import pytest

from palate.data.measures.safety import find_private, hide_private, redact, toxic_words


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.roe@mailbox.org today", ["email"]),
        ("call +49 170 1234567 after six", ["phone"]),
        ("call (415) 867-5309", ["phone"]),
        ("call 415-867-5309", ["phone"]),
        ("card 4111 1111 1111 1111, thanks", ["card"]),
        ("card 4111111111111111", ["card"]),
        ("IBAN DE89 3704 0044 0532 0130 00", ["iban"]),
        ("GB82WEST12345698765432", ["iban"]),
        ("ssn 123-45-6789", ["ssn"]),
        ("server 8.8.8.8 is down", ["ip"]),
        ("key AKIAIOSFODNN7EXAMPLE", ["key"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["key"]),
        ("token ghp_" + "a1B2" * 9, ["key"]),
        ("sk-proj-" + "aB3_" * 8, ["key"]),
        ("hf_" + "aBcDeFgHiJ" * 4, ["key"]),
    ],
)
def test_found(text: str, kinds: list[str]) -> None:
    found = find_private(text)
    assert [finding.kind for finding in found] == kinds
    assert all(len(finding.masked) <= 5 for finding in found)


def test_what_is_found_is_hidden_and_the_rest_stays() -> None:
    text = "Write to jane.roe@mailbox.org or a@b.example, or call (415) 867-5309."
    assert hide_private(text) == "Write to jane… or a@b.example, or call (415…."
    assert hide_private("pi is 3.14159265358979") == "pi is 3.14159265358979"


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and a@b.example",
        "card 4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "pi is 3.14159265358979",
        "version v1.2.3.4 and 1.2.3.4.5",
        "localhost is 127.0.0.1, routers are 192.168.1.1, examples 192.0.2.5",
        "on 2024-03-15 at 10:30, from 1990-2000",
        "the area is 1,234,567.89 square metres",
        "call 555-0123",
        "ISBN 978-3-16-148410-0",
        "1 2 3 4 5 6 7 8 9 10",
        "sum([1, 2, 3]) == 6; x = 0000000000",
        "see arXiv 2305.18290 and doi 10.1000/182",
    ],
)
def test_not_found(text: str) -> None:
    assert find_private(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("You fucking idiot.", ["fucking"]),
        ("What a BITCH!", ["bitch"]),
        ("du arschloch", ["arschloch"]),
        ("I'll kill you tomorrow.", ["i'll kill you"]),
        ("You deserve to die, go back to your country", ["you deserve to die", "go back to your country"]),
        ("You worthless piece of trash.", ["worthless piece of trash"]),
    ],
)
def test_insults_and_threats(text: str, found: list[str]) -> None:
    assert toxic_words(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Add the spice and spicy peppers, then dress the bass.",
        "How do I kill a Python process?",
        "The Scunthorpe council in Essex assessed the class.",
        "Humans should not die of thirst in any country.",
        "Troia and the piranha, a dyke in Holland, a chink in the armour.",
        "",
    ],
)
def test_harmless_texts(text: str) -> None:
    assert toxic_words(text) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a@b.example and jane.roe@mailbox.org", "[email] and [email]"),
        ("10.0.0.1, 8.8.8.8, 2001:db8::1 and ::1 at 12:30:45", "[ip], [ip], [ip] and [ip] at 12:30:45"),
        ("version 1.2.3.400 of 1.2.3", "version 1.2.3.400 of 1.2.3"),
        ("030 1234567 or 030/123-4567 or +1 415 867 5309", "[phone] or [phone] or [phone]"),
        ("in 2026-01-31, page 0815, 1 000 000 people", "in 2026-01-31, page 0815, 1 000 000 people"),
        ("palate-" + "aB3_" * 11 + " opens palate-serve", "[key] opens palate-serve"),
        ("key sk-a1B2c3D4 and task-force-of-eight", "key [key] and task-force-of-eight"),
        ("4111-1111-1111-1111 DE89370400440532013000", "[card] [iban]"),
        ("a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb", "a\n[key]\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE and so on", "[key]"),
        ("std::vector and a::b, {a:b:c}", "std::vector and a::b, {a:b:c}"),
    ],
)
def test_nothing_of_what_is_redacted_is_left(text: str, left: str) -> None:
    assert redact(text) == left
