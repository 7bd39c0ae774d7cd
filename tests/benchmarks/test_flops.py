"""What a step is said to need equals what PyTorch counts, and what a mask shows."""

from __future__ import annotations

import numpy as np
import torch
from _flops import Flops, forward_flops, shape_of, training_flops, visible_keys
from torch.utils.flop_counter import FlopCounterMode

from palate.text.groups import EncodedCompletion, EncodedGroup
from tiny import random_groups, tiny_model


def group(prompt: int, *completions: int) -> EncodedGroup:
    def ids(n: int) -> np.ndarray:
        return np.arange(3, 3 + n, dtype=np.int32)

    answers = tuple(EncodedCompletion(ids(n), np.ones(n, dtype=bool)) for n in completions)
    return EncodedGroup("row", ids(prompt), answers)


def test_coefficients_equal_what_pytorch_counts_of_a_dense_forward() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    shape = shape_of(model)
    tokens = 11
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.arange(3, 3 + tokens)[None])
    # Stock attention computes every pair of positions and the head every token; rotary angles are a product too.
    angles = 2 * tokens * model.config.hidden_size // model.config.num_attention_heads // 2
    dense = 2 * shape.linear * tokens + shape.attention * tokens**2 + 2 * shape.head * tokens
    assert counter.get_total_flops() - dense in (0, angles)


def test_visible_keys_equal_the_ones_of_the_tree_mask() -> None:
    one = group(4, 3, 2)
    owner = np.array([0] * 4 + [1] * 3 + [2] * 2)
    query, key = np.indices((9, 9))
    mask = (key <= query) & ((owner[key] == 0) | (owner[key] == owner[query]))
    assert visible_keys(one) == mask.sum()


def test_a_prompt_counts_once_and_only_trained_tokens_reach_the_head() -> None:
    shape = shape_of(tiny_model())
    flops = forward_flops(shape, [group(4, 3, 2)])
    assert flops.trunk == 2 * shape.linear * 9
    assert flops.head == 2 * shape.head * 5
    masked = group(4, 3)
    masked.completions[0].trained[1] = False
    assert forward_flops(shape, [masked]).head == 2 * shape.head * 2


def test_groups_add_up_and_a_backward_pass_counts_twice() -> None:
    shape = shape_of(tiny_model())
    groups = random_groups(5)
    alone = [forward_flops(shape, [one]) for one in groups]
    assert forward_flops(shape, groups) == sum(alone, Flops())
    assert training_flops(shape, groups).total == 3 * forward_flops(shape, groups).total
