"""A cast is remembered inside the context, renewed after an update, and forgotten outside."""

from __future__ import annotations

import pytest
import torch

from palate.models.casts import cast, compute_dtype, reuse_casts


def test_reused_inside_and_fresh_outside() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    with reuse_casts():
        first = cast(weight, torch.bfloat16)
        assert cast(weight, torch.bfloat16) is first
        assert not first.requires_grad
    assert cast(weight, torch.bfloat16) is not first


def test_an_update_inside_is_seen() -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    with reuse_casts():
        cast(weight, torch.bfloat16)
        with torch.no_grad():
            weight.mul_(3.0)
        assert cast(weight, torch.bfloat16).tolist() == [3.0] * 4


def test_a_copy_in_the_same_place_of_a_module_is_another_weight() -> None:
    # functional_call puts the reference's weights where the policy's stand.
    policy, reference = torch.ones(4), torch.full((4,), 2.0)
    with reuse_casts():
        assert cast(policy, torch.bfloat16).sum() == 4
        assert cast(reference, torch.bfloat16).sum() == 8


def test_a_weight_that_fits_is_not_copied() -> None:
    weight = torch.ones(4)
    assert cast(weight, torch.float32).data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(
    ("x", "weight", "want"), [("float32", "bfloat16", "float32"), ("bfloat16", "bfloat16", "bfloat16")]
)
def test_compute_dtype(x: str, weight: str, want: str) -> None:
    a, b = torch.zeros(1, dtype=getattr(torch, x)), torch.zeros(1, dtype=getattr(torch, weight))
    assert compute_dtype(a, b) == getattr(torch, want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(a, b) == torch.bfloat16
