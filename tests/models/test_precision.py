"""The dtype that products are computed in."""

from __future__ import annotations

import pytest
import torch

from palate.models.precision import compute_dtype


@pytest.mark.parametrize(
    ("x", "weight", "want"), [("float32", "bfloat16", "float32"), ("bfloat16", "bfloat16", "bfloat16")]
)
def test_compute_dtype(x: str, weight: str, want: str) -> None:
    a, b = torch.zeros(1, dtype=getattr(torch, x)), torch.zeros(1, dtype=getattr(torch, weight))
    assert compute_dtype(a, b) == getattr(torch, want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(a, b) == torch.bfloat16
