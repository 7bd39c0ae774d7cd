"""The decoding loop equals transformers' own greedy generation, whatever leaves the batch when."""

from __future__ import annotations

import pytest
import torch

from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.decode import draw_tokens, linear_weights_in
from palate.models.generation.local.generate import generate
from palate.models.precision import FP32
from tiny import tiny_model

PROMPTS = [[5, 9, 12], [7, 3, 30, 31, 8, 90, 14], [11], [7, 3, 30, 31, 8, 90, 14]]


def stock(model: torch.nn.Module, prompt: list[int], tokens: int, stops: list[int]) -> list[int]:
    """Greedy decoding without a cache: the definition."""
    ids = list(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2", "gemma2", "qwen3_5_text"])
def test_greedy_answers_are_the_models_own(kind: str) -> None:
    model = tiny_model(kind)
    free = [stock(model, prompt, 12, []) for prompt in PROMPTS]
    # A token that one answer soon says is a stop: rows end at different steps, and the batch shrinks.
    stops = [free[0][2], free[1][6]]
    wanted = [stock(model, prompt, 12, stops) for prompt in PROMPTS]
    assert len({len(answer) for answer in wanted}) > 1
    for batch_size in (1, 2, 8):
        got = generate(
            model, PROMPTS, Decoding(max_new_tokens=12), stop_ids=stops, precision=FP32, batch_size=batch_size
        )
        assert got == wanted


def test_copies_of_a_prompt_are_read_once_and_drawn_apart() -> None:
    model = tiny_model("llama")
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    prompts = [prompt for prompt in PROMPTS[:2] for _ in range(4)]
    sampled = generate(model, prompts, Decoding(max_new_tokens=6, temperature=1.0), stop_ids=[], precision=FP32)
    assert seen[0] == 2
    assert seen[1] == 8
    assert len({tuple(answer) for answer in sampled[:4]}) > 1
    alone = generate(
        model,
        prompts[4:5],
        Decoding(max_new_tokens=6, temperature=1.0),
        stop_ids=[],
        precision=FP32,
        seeds=[sampling_seed(0, 4)],
    )
    assert alone[0] == sampled[4]


def test_drawn_tokens_follow_the_distribution() -> None:
    scores = torch.randn(1, 7)
    points = torch.linspace(0, 1 - 1e-9, 20_001, dtype=torch.float64)[:, None]
    drawn = draw_tokens(scores.expand(len(points), -1), points, 1.0).flatten()
    shares = torch.bincount(drawn, minlength=7) / len(points)
    torch.testing.assert_close(shares, scores.softmax(-1)[0], atol=2e-4, rtol=0)
    assert torch.equal(drawn, drawn.sort().values)


def test_a_nucleus_leaves_the_unlikely_out() -> None:
    scores = torch.tensor([[3.0, 2.0, -1.0, -2.0]])
    points = torch.linspace(0, 1 - 1e-9, 500, dtype=torch.float64)[:, None]
    assert set(draw_tokens(scores.expand(500, -1), points, 0.9).flatten().tolist()) == {0, 1}


def test_weights_come_back_as_they_were() -> None:
    model = tiny_model("llama")
    before = dict(model.named_parameters())
    with linear_weights_in(model, torch.bfloat16):
        assert model.lm_head.weight.dtype == torch.bfloat16
        assert model.get_input_embeddings().weight.dtype == torch.float32
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert model.lm_head.weight is model.get_input_embeddings().weight
