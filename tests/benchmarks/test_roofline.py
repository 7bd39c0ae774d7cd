"""The roofline's split follows ranges and products, and the whole script fits the engine's names on a tiny model."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest
import roofline


@dataclass
class Event:
    name: str
    self_cpu_time_total: float
    cpu_parent: Event | None = None


def events() -> list[Event]:
    attention = Event("part:attention", 1e6)
    backward = Event("autograd::engine::evaluate_function: _PlainHeadBackward", 2e6)
    return [
        attention,
        Event("aten::bmm", 4e6, attention),
        backward,
        Event("aten::mm", 8e6, Event("_PlainHeadBackward", 0.0, backward)),
        Event("aten::mm", 16e6),
        Event("aten::silu", 32e6),
        Event("Optimizer.step#AdamW.step", 64e6),
        Event("part:data", 128e6),
    ]


def test_an_operation_belongs_to_the_range_around_it() -> None:
    assert roofline._seconds_by_part(events()) == {
        "trunk": 16.0,
        "attention": 5.0,
        "head": 10.0,
        "optimiser": 64.0,
        "data": 128.0,
    }


def test_a_profile_without_a_part_is_refused() -> None:
    without = [event for event in events() if "Head" not in event.name and event.cpu_parent is None]
    with pytest.raises(SystemExit, match="nothing of head"):
        roofline._seconds_by_part(without)


def test_a_whole_measurement_on_a_tiny_model(
    tiny_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_REFERENCES", str(tmp_path))  # the script sets it; this gives it back
    monkeypatch.setattr(roofline, "peak", lambda shapes, seconds: {"fp32": 1e12, "bf16": 2e12})
    options = argparse.Namespace(
        model=str(tiny_folder),
        source=source,
        pairs=6,
        batch=2,
        epochs=2,
        cutoff_len=120,
        precision="fp32",
        peak_seconds=0.0,
    )
    result = roofline.measure(options, tmp_path)
    assert sum(part["share"] for part in result["parts"]) == pytest.approx(1)
    assert all(part["share"] > 0 for part in result["parts"])
    # Two epochs of forward and backward and one reference pass; the measured steps are all but one of six.
    assert result["whole"]["flops"] == 7 * result["reference"]["flops"]
    assert 0 < result["step"]["flops"] < 6 * result["reference"]["flops"]
    assert result["step"]["of_peak"] == pytest.approx(result["step"]["flops_per_second"] / 1e12)
