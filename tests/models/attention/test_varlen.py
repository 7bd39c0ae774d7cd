"""The arithmetic around the variable-length kernel, with the kernel written out: values, gradients and selection."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from palate.errors import ModelError
from palate.models.attention import varlen
from palate.models.attention.flex import FLEX
from palate.models.attention.interface import TreeMask, tree_mask
from palate.models.attention.kernels import kernels_of
from palate.models.attention.tree import TREE, tree_attention
from palate.models.attention.varlen import VARLEN, VarlenIndex, varlen_index, varlen_kernel, varlen_tree_attention
from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.text.batch import Layout, Span
from tiny import tiny_model

CPU = torch.device("cpu")
needs_kernel = pytest.mark.skipif(find_spec("torch.nn.attention.varlen") is None, reason="torch before 2.10")
LAYOUT = Layout((Span(0, 3, (2, 4, 1)), Span(10, 2, (3,)), Span(15, 0, (2, 2)), Span(19, 9, (0, 5, 0, 6))))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, benchmarks: Any) -> None:
    monkeypatch.setattr(varlen, "varlen_kernel", lambda: ("eager", benchmarks.eager_varlen))


def test_the_index_of_a_row_by_hand() -> None:
    found = varlen_index(Layout((Span(0, 2, (1, 3)), Span(6, 0, (2, 1)), Span(9, 4, (0, 1)))), CPU)
    assert found.query_ends.tolist() == [0, 3, 6, 8, 9, 13, 14]
    assert found.key_ends.tolist() == [0, 3, 8, 10, 11, 15, 20]
    assert found.keys is not None
    assert found.keys.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 9, 10, 11, 12, 13]
    assert (found.queries, found.longest) == (4, 5)
    assert found.query_ends.dtype == found.key_ends.dtype == torch.int32


def test_one_completion_to_a_prompt_needs_no_copies() -> None:
    found = varlen_index(Layout((Span(0, 2, (3,)), Span(5, 4, ()))), CPU)
    assert found.keys is None
    assert found.query_ends.tolist() == found.key_ends.tolist() == [0, 5, 9]


@pytest.mark.parametrize("window", [None, 3, 500])
@pytest.mark.parametrize("heads", [(4, 2), (9, 3), (1, 1)])
@pytest.mark.usefixtures("eager")
def test_values_and_gradients_equal_the_tree(window: int | None, heads: tuple[int, int], benchmarks: Any) -> None:
    rule = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    torch.manual_seed(0)
    shapes = heads[0], heads[1], heads[1]
    inputs = [torch.randn(1, n, LAYOUT.tokens, 8, dtype=torch.float64, requires_grad=True) for n in shapes]
    found = []
    for attention in (varlen_tree_attention, tree_attention):
        mask = tree_mask(mask_function=rule)
        with benchmarks.spans_only():
            out, _ = attention(torch.nn.Identity(), *inputs, mask, layout=LAYOUT, scaling=0.3)
        upstream = torch.arange(out.numel(), dtype=out.dtype).sin().view_as(out)
        found.append([out.detach(), *torch.autograd.grad(out, inputs, upstream)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@pytest.mark.usefixtures("eager")
def test_gradients_of_copies_add_up_in_float32() -> None:
    """A thousand completions of one prompt token: in bf16 their sum would stop growing at 256."""
    layout = Layout((Span(0, 1, (1,) * 1000),))
    q, k, v = (torch.zeros(1, 1, 1001, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    out, _ = varlen_tree_attention(torch.nn.Identity(), q, k, v, None, layout=layout)
    out.sum().backward()
    assert v.grad is not None
    assert v.grad[0, 0, 0].tolist() == [500.0] * 8  # itself, and half of each completion: 501, rounded to bf16


@pytest.mark.parametrize(("width", "keys"), [(1, 9), (3, 9), (64, 500), (499, 500)])
def test_a_window_is_recognised(width: int, keys: int) -> None:
    assert TreeMask(sliding_window_causal_mask_function(width)).window(keys) == width
    assert TreeMask(sliding_window_causal_mask_function(keys)).window(keys) is None


@pytest.mark.parametrize("chunk", [2, 5, 7, 50, 99])
def test_chunks_are_no_window(chunk: int) -> None:
    with pytest.raises(ModelError, match="no sliding window"):
        TreeMask(lambda b, h, q, k: q // chunk == k // chunk).window(100)


@needs_kernel
def test_torch_has_a_kernel_with_windows() -> None:
    assert varlen_kernel()[0] == "torch.nn.attention.varlen"


@pytest.mark.parametrize("scaled", [True, False])
def test_arguments_of_the_kernels(scaled: bool) -> None:
    """As their documentation names them: (left, right) windows, places, and what an older version lacks."""
    seen: list[Any] = []

    def new(
        q: Any, k: Any, v: Any, *places: Any, scale: Any = None, window_size: Any = None, enable_gqa: Any = None
    ) -> Any:
        seen.append((q, k, places, scale, window_size, enable_gqa))
        return q

    def old(q: Any, k: Any, v: Any, *places: Any, window_size: Any = None) -> Any:
        seen.append((q, k, places, None, window_size, None))
        return q

    index = varlen_index(LAYOUT, CPU)
    q, k = torch.ones(40, 4, 16, dtype=torch.bfloat16), torch.ones(40, 2, 16, dtype=torch.bfloat16)
    varlen._adapted(new if scaled else old)(q, k, k, index, 0.5, 3)
    given, keys, places, scale, window, gqa = seen[0]
    assert places == (index.query_ends, index.key_ends, index.queries, index.longest)
    assert window == (2, 0)
    if scaled:
        assert (scale, gqa, keys.shape[1]) == (0.5, True, 2)
    else:  # the kernel divides by √16 itself, and has no grouped heads
        assert float(given[0, 0, 0]) / 4 == 0.5
        assert keys.shape[1] == 4

    def flash(q: Any, k: Any, v: Any, *places: Any, softmax_scale: Any, causal: Any, window_size: Any) -> Any:
        assert (places, softmax_scale, causal, window_size) == (seen[0][2], 0.5, True, (-1, 0))
        return q

    varlen._adapted(flash)(q, k, k, index, 0.5, None)


@needs_kernel
@pytest.mark.parametrize(
    ("dtype", "width", "value_width", "said"),
    [
        (torch.float32, 16, 16, "bf16 and fp16 only"),
        (torch.bfloat16, 12, 12, "multiple of 8"),
        (torch.bfloat16, 264, 264, "up to 256"),
        (torch.bfloat16, 16, 8, "equal width"),
    ],
)
def test_heads_that_no_kernel_computes_are_refused(dtype: torch.dtype, width: int, value_width: int, said: str) -> None:
    q, v = (torch.zeros(1, 2, LAYOUT.tokens, one, dtype=dtype) for one in (width, value_width))
    with pytest.raises(ModelError, match=said):
        varlen_tree_attention(torch.nn.Identity(), q, q, v, None, layout=LAYOUT)
    with pytest.raises(ModelError, match="softcapped scores"):
        varlen_tree_attention(torch.nn.Identity(), q, q, v, None, layout=LAYOUT, softcap=5.0)


# ---- which kernel a run gets


def test_preference_by_device() -> None:
    cuda = torch.device("cuda")
    assert kernels_of("auto", cuda) == (VARLEN, FLEX, TREE)
    assert kernels_of("auto", CPU) == (TREE,)
    assert kernels_of("varlen", cuda) == (VARLEN,)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_the_first_kernel_that_agrees_is_selected(kind: str, precision: Any) -> None:
    model = tiny_model(kind)
    found = probe(model, kernels=(VARLEN, TREE), precision=precision)
    assert (found.packed, found.attention, found.refused) == (True, "varlen (eager)", ())
    assert model.config._attn_implementation == VARLEN


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_kernel_that_is_not_there_is_said_and_the_next_one_runs() -> None:
    """The real kernel on a CPU in float32."""
    model = tiny_model("llama")
    found = probe(model, kernels=(VARLEN, FLEX, TREE))
    assert found.packed
    assert len(found.refused) in (1, 2)
    assert found.refused[0].startswith("varlen (torch.nn.attention.varlen): ModelError: variable-length attention comp")
    assert model.config._attn_implementation in (FLEX, TREE)
    alone = probe(tiny_model("llama"), kernels=(VARLEN,))
    assert not alone.packed
    assert alone.attention.startswith("padded: varlen")


def test_features_that_the_kernel_lacks_lead_to_the_next(eager: None) -> None:
    model = tiny_model("gemma2")
    found = probe(model, kernels=(VARLEN, TREE))
    assert found.attention == "tree"
    assert "softcapped scores" in found.refused[0]
    assert model.config._attn_implementation == TREE


@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda one: one.name)
@pytest.mark.parametrize("fault", ["upper left", "no window", "keys", "values"])
def test_a_wrong_kernel_is_refused(
    monkeypatch: pytest.MonkeyPatch, benchmarks: Any, fault: str, precision: Any
) -> None:
    """Alignment to the upper left was cuDNN's (pytorch pull request 193630); a gradient may be lost."""

    def wrong(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, index: VarlenIndex, scale: float, window: int | None
    ) -> torch.Tensor:
        if fault == "keys":
            k = k.detach()
        if fault == "values":
            v = v.detach()
        if fault != "upper left":
            return benchmarks.eager_varlen(q, k, v, index, scale, None if fault == "no window" else window)
        outputs = []
        for s in range(len(index.query_ends) - 1):
            own = slice(int(index.query_ends[s]), int(index.query_ends[s + 1]))
            seen = slice(int(index.key_ends[s]), int(index.key_ends[s]) + own.stop - own.start)
            ends = torch.tensor([0, own.stop - own.start])
            part = VarlenIndex(None, ends, ends, 0, 0)
            outputs.append(benchmarks.eager_varlen(q[own], k[seen], v[seen], part, scale, window))
        return torch.cat(outputs)

    monkeypatch.setattr(varlen, "varlen_kernel", lambda: ("wrong", wrong))
    torch.manual_seed(0)
    model = tiny_model("mistral", std=0.02)
    found = probe(model, kernels=(VARLEN, TREE), precision=precision)
    assert found.attention == "tree"
    assert "differ" in found.refused[0]
