"""FlexAttention's tree equals the spans; what it cannot express is refused, and training on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from palate.config.load import config_from_values
from palate.errors import ConfigError, ModelError
from palate.models.attention.flex import FLEX, addresses, block_mask, flex_tree_attention
from palate.models.attention.interface import tree_mask
from palate.models.attention.tree import tree_attention
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.text.batch import Layout, Span, pack
from palate.training.setup.build import build_policy
from tiny import random_groups, save_tiny, tiny_model

LAYOUT = Layout((Span(0, 3, (2, 4, 1)), Span(10, 2, (3,)), Span(15, 0, (2, 2)), Span(19, 90, (60, 40))))


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """On a CPU the definition runs as it stands, without a compiler, and PyTorch says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        yield


def heads() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(1, n, LAYOUT.tokens, 8) for n in (4, 2, 2))  # type: ignore[return-value]


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_forward_equals_the_spans(window: int | None, softcap: float | None) -> None:
    rule = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    q, k, v = heads()
    given = {"layout": LAYOUT, "softcap": softcap, "position_ids": None, "scaling": 0.4}
    got, _ = flex_tree_attention(torch.nn.Identity(), q, k, v, tree_mask(mask_function=rule), **given)
    want, _ = tree_attention(torch.nn.Identity(), q, k, v, tree_mask(mask_function=rule), **given)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_addresses_say_group_completion_and_logical_position() -> None:
    owner, part, place = addresses(Layout((Span(0, 2, (1, 2)), Span(5, 0, (2,)))), 10)
    assert owner.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert part.tolist() == [-1, -1, 0, 1, 1, 0, 0, -1, -1, -1]
    assert place.tolist() == [0, 1, 2, 2, 3, 0, 1, 0, 1, 2]


def test_blocks_that_nobody_sees_are_skipped() -> None:
    """Two groups of 256 tokens: of 16 blocks of 128, only the 3 on and below each group's diagonal are computed."""
    mask = block_mask(Layout((Span(0, 256, ()), Span(256, 256, ()))), causal_mask_function, torch.device("cpu"))
    full = mask.full_kv_num_blocks
    assert full is not None
    assert int(mask.kv_num_blocks.sum() + full.sum()) == 6
    assert mask.sparsity() == pytest.approx(100 * 10 / 16)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral", "gemma2"])
def test_models_score_as_with_spans(kind: str) -> None:
    batch = pack(random_groups(4, 3))
    scores = []
    for options in ({}, {"kernels": (FLEX,)}):
        model = tiny_model(kind)
        found = probe(model, **options)
        assert found.packed, found.reason
        with torch.no_grad():
            scores.append(model(**batch.model_inputs()).logps)
    torch.testing.assert_close(*scores, atol=2e-4, rtol=1e-4)
    assert model.config._attn_implementation == FLEX


def test_sinks_and_dropout_are_refused() -> None:
    q, k, v = heads()
    with pytest.raises(ModelError, match="attention sinks"):
        flex_tree_attention(torch.nn.Identity(), q, k, v, None, layout=LAYOUT, s_aux=torch.zeros(4))
    with pytest.raises(ModelError, match="dropout"):
        flex_tree_attention(torch.nn.Identity(), q, k, v, None, layout=LAYOUT, dropout=0.1)
    with pytest.raises(ModelError, match="did not pass the packed layout"):
        flex_tree_attention(torch.nn.Identity(), q, k, v, None)


def test_training_on_a_cpu_is_refused_in_one_line(tmp_path: Path) -> None:
    values = {
        "stage": "dpo",
        "model_name_or_path": str(save_tiny(tmp_path / "model")),
        "dataset": "pairs.jsonl",
        "output_dir": str(tmp_path / "run"),
        "attention": "flex",
    }
    with pytest.raises(ConfigError, match=r"attention: flex trains on a CUDA GPU only, .* use attention: tree"):
        build_policy(config_from_values(values).config, FP32, torch.device("cpu"))
