"""Who reaches an address, and by which names."""

from __future__ import annotations

import socket

import pytest

from palate.network.address import Address, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("", False),
        ("label.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_names_that_a_server_answers_to() -> None:
    assert Address().hosts() == ["localhost", "127.0.0.1", "[::1]"]
    assert Address(host="192.168.1.2").hosts() == ["localhost", "127.0.0.1", "[::1]", "192.168.1.2"]
    assert "label.example.org" in Address(names=("Label.Example.org",)).hosts()
    assert "[fd00::1]" in Address(host="fd00::1").hosts()
    everywhere = Address(host="0.0.0.0").hosts()
    assert "0.0.0.0" not in everywhere
    assert socket.gethostname().lower() in everywhere
    assert "*" not in everywhere
