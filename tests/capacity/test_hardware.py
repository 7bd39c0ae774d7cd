"""Devices by name and by numbers; wrong ones are one line."""

from __future__ import annotations

import pytest

from palate.capacity.hardware import HARDWARE, Hardware, parse_hardware
from palate.errors import UsageError


def test_by_name_by_numbers_and_both() -> None:
    assert parse_hardware("h200").memory == 141
    own = parse_hardware("memory=48,tflops=200,bandwidth=900")
    assert (own.memory, own.tflops, own.bandwidth, own.gpu) == (48, 200, 900, True)
    mixed = parse_hardware("A100-40, efficiency=0.4")
    assert (mixed.efficiency, mixed.memory) == (0.4, HARDWARE["a100-40"].memory)
    here = Hardware("this", 16, 1, 20, gpu=False)
    assert parse_hardware("this,memory=8", here).memory == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("H9000", "--hardware H9000: not known; choose this, H100, H200"),
        ("memory=48", "tflops, bandwidth missing"),
        ("H100,memory=-3", "--hardware memory=-3: write a number above 0"),
        ("H100,memory=lots", "memory=lots: write a number above 0"),
        ("H100,memory=nan", "memory=nan: write a number above 0"),
        ("H100,efficiency=1.5", "efficiency=1.5: write a number above 0, of a share at most 1"),
        ("H100,colour=3", "colour=3: write .* of memory, tflops, bandwidth, link"),
        ("this", "not known"),
    ],
)
def test_a_wrong_one_is_one_line(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_hardware(text)


def test_every_device_names_the_source_of_its_figures() -> None:
    assert all("sheet" in device.source or "whitepaper" in device.source for device in HARDWARE.values())
