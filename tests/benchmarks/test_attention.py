"""Each form of attention on packed rows gives the losses and gradients of padded rows; only kernels are replaced."""

from __future__ import annotations

import contextlib

import _attention
import pytest
import torch
from _attention import ALL, SOME, Case

from palate.models.attention.flex import FLEX
from palate.models.attention.tree import TREE
from palate.models.attention.varlen import VARLEN

CPU = torch.device("cpu")
REPLACED = {VARLEN: _attention.eager_kernel, TREE: _attention.spans_only, FLEX: _attention.flex_backward}


def check(case: Case, kernel: str, dtype: torch.dtype) -> None:
    with REPLACED[kernel]():
        found = _attention.compare(case, kernel, CPU, dtype)
    assert found["equal"], found
    if dtype == torch.float64 and kernel != FLEX:  # the head is float32 in any precision
        assert found["gradient"] < 1e-6, found


@pytest.mark.parametrize("kernel", REPLACED)
@pytest.mark.parametrize("case", SOME, ids=str)
def test_packed_rows_equal_padded_rows(case: Case, kernel: str) -> None:
    check(case, kernel, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", REPLACED)
@pytest.mark.parametrize("case", ALL, ids=str)
def test_packed_rows_equal_padded_rows_in_all_cases(case: Case, kernel: str) -> None:
    # FlexAttention computes in at most float32.
    check(case, kernel, torch.float32 if kernel == FLEX else torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", REPLACED)
@pytest.mark.parametrize("case", SOME, ids=str)
def test_bf16_is_as_close_as_that_of_padded_rows(case: Case, kernel: str) -> None:
    check(case, kernel, torch.bfloat16)


def test_a_difference_is_seen() -> None:
    """Without its window the same model is another one."""
    case = SOME[1]
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        stack.enter_context(_attention.eager_kernel())
        patch.setattr("palate.models.attention.interface.TreeMask.window", lambda *_: None)
        assert not _attention.compare(case, VARLEN, CPU, torch.float32)["equal"]


def test_a_kernel_that_fails_is_a_line_of_the_table() -> None:
    with pytest.MonkeyPatch.context() as patch:

        def fail(*_: object) -> None:
            raise RuntimeError("no kernel image")

        patch.setattr(_attention, "eager_varlen", fail)
        rows = _attention.equality(CPU, SOME[:1], left=lambda: 1.0)
    assert len(rows) == 6
    assert [row["equal"] for row in rows] == [False, False, True, True, True, True]
    assert rows[0]["error"] == "RuntimeError: no kernel image"
    assert _attention.equality(CPU, SOME, left=lambda: 0.0) == []
