"""What stands in front of every result: the machine, and how fast it multiplies."""

from __future__ import annotations

import sys
from typing import Any

import _measure
import _products
import pytest


@pytest.mark.parametrize("formats", [[], ["avx512_bf16"]])
def test_bf16_is_measured_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, formats: list[str]) -> None:
    monkeypatch.setattr(_products, "native_formats", lambda: formats)
    rates = _products.peak([(8, 4), (4, 8)], 0.001, rows=8)
    assert set(rates) == ({"fp32", "bf16"} if formats else {"fp32"})
    assert all(rate > 0 for rate in rates.values())


def test_the_rate_counts_both_factors_and_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_products, "native_formats", lambda: [])
    monkeypatch.setattr(_products, "_least", lambda call, seconds: 2.0)
    assert _products.peak([(8, 4), (2, 2)], 0.001, rows=16) == {"fp32": 2 * 16 * 8 * 4 / 2.0}


def test_a_result_carries_its_machines_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/pieces.py", "--rounds", "3"])
    monkeypatch.setattr(_measure, "run_child", lambda *_: {"products": {"fp32": 1e9}, "wall_seconds": 5.0})
    result = _measure.located({"benchmark": "pieces"})
    assert result["machine"]["products"] == {"fp32": 1e9}
    assert "wall_seconds" not in result["machine"]
    assert (result["command"], result["benchmark"]) == ("python benchmarks/pieces.py --rounds 3", "pieces")


def test_a_result_outlives_a_rate_that_could_not_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        sys.exit("_products.py failed")

    monkeypatch.setattr(_measure, "run_child", fails)
    assert _measure.located({"rows": [1]})["rows"] == [1]
    assert "_products.py failed" in capsys.readouterr().err
