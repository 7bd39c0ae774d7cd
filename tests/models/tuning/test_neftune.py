"""Noise on embeddings: its size for each sequence, and when there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.models.scoring.forward import install
from palate.models.scoring.head import Head
from palate.models.tuning.neftune import EmbeddingNoise, sequence_lengths
from palate.text.batch import pack, pad
from palate.text.groups import EncodedCompletion, EncodedGroup
from tiny import random_groups, tiny_model


def group(prompt: int, *answers: int) -> EncodedGroup:
    def completion(n: int) -> EncodedCompletion:
        return EncodedCompletion(np.full(n, 7, dtype=np.int32), np.ones(n, dtype=bool))

    return EncodedGroup("row:1", np.full(prompt, 5, dtype=np.int32), tuple(map(completion, answers)))


def test_the_length_of_a_sequence_is_that_of_its_own_group() -> None:
    groups = [group(3, 2), group(4, 1, 6)]
    assert sequence_lengths(pack(groups)).tolist() == [[5.0] * 5 + [10.0] * 11]
    assert sequence_lengths(pad(groups)).tolist() == [[5.0], [10.0], [10.0]]


@pytest.mark.parametrize("collate", [pack, pad], ids=["packed", "padded"])
def test_noise_is_uniform_up_to_alpha_over_the_root_of_length_times_width(collate: object) -> None:
    model = tiny_model("llama")
    embedding = model.get_input_embeddings()
    noise, width = EmbeddingNoise(model, alpha=15.0), embedding.weight.shape[1]
    batch = collate([group(60, 40), group(20, 5, 380)])  # type: ignore[operator]
    torch.manual_seed(0)
    with torch.no_grad():
        plain = embedding(batch.input_ids)
        with noise.on(batch):
            added = embedding(batch.input_ids) - plain
    lengths = sequence_lengths(batch)[..., None].expand_as(added)
    for length in (100.0, 400.0):
        values, most = added[lengths == length], 15.0 / math.sqrt(length * width)
        assert float(values.abs().max()) <= most * 1.001
        assert float(values.std()) == pytest.approx(most / math.sqrt(3), rel=0.02)
        assert float(values.mean()) == pytest.approx(0.0, abs=0.02 * most)
    assert torch.equal(embedding(batch.input_ids), plain), "noise outside the context"


def test_without_the_context_scores_are_exact() -> None:
    """What is packed beside a sequence changes neither its score without noise nor the size of its noise."""
    model = tiny_model("llama")
    install(model, Head())
    groups = [replace(one, completions=one.completions[:1]) for one in random_groups(3)]
    batch = pad(groups)
    with torch.no_grad():
        before = model(**batch.model_inputs()).logps
        noise = EmbeddingNoise(model, alpha=5.0)
        with noise.on(batch):
            noisy = model(**batch.model_inputs()).logps
        after = model(**batch.model_inputs()).logps
    assert torch.equal(before, after)
    assert not torch.allclose(before, noisy, atol=1e-3)
    assert sequence_lengths(pad(groups[:1]))[0] == sequence_lengths(batch)[0]
