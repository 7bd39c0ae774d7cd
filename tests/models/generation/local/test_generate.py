"""Sampling: the right distribution, a seed for each prompt, and nothing that came with the model."""

from __future__ import annotations

import pytest
import torch

from palate.errors import DataError
from palate.models.attention.kernels import original_attention
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.decode import draw_tokens
from palate.models.generation.local.generate import generate
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from tiny import PACKED, tiny_model

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14], [5, 6, 7]]


def answer(model: object, prompts: list[list[int]], seeds: list[int] | None = None, **how: float) -> list[list[int]]:
    decoding = Decoding(**{"max_new_tokens": 12, "temperature": 1.0, **how})  # type: ignore[arg-type]
    return generate(model, prompts, decoding, stop_ids=[2], precision=FP32, seeds=seeds, batch_size=3)


def test_an_answer_does_not_depend_on_its_neighbours() -> None:
    model = tiny_model()
    seeds = [sampling_seed(0, name) for name in "abcd"]
    together = answer(model, PROMPTS, seeds)
    assert together == [answer(model, [prompt], [seed])[0] for prompt, seed in zip(PROMPTS, seeds)]
    assert together == answer(model, PROMPTS[::-1], seeds[::-1])[::-1]
    assert together[0] != together[3], "two seeds, two answers to the same prompt"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("prompts", [[[]], [[5, 6], []], [[5, 6], [], [7]]])
def test_an_empty_prompt_is_refused(kind: str, prompts: list[list[int]]) -> None:
    number = prompts.index([]) + 1
    with pytest.raises(DataError, match=f"^prompt {number} of {len(prompts)} has no tokens .*; leave it out or begin"):
        answer(tiny_model(kind), prompts)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    answer(tiny_model(), PROMPTS)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), expected)


def test_temperature_zero_takes_the_likeliest_token() -> None:
    model = tiny_model()
    (ids,) = answer(model, [PROMPTS[0]], temperature=0.0, max_new_tokens=1)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1]
    assert ids == [int(logits.argmax())]


@pytest.mark.parametrize("top_p", [1.0, 0.75])
def test_draws_follow_the_distribution(top_p: float) -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.3, 0.1])
    uniform = (torch.arange(4000, dtype=torch.float64)[:, None] + 0.5) / 4000
    tokens = draw_tokens(probabilities.log().expand(4000, 4), uniform, top_p)
    shares = torch.bincount(tokens[:, 0], minlength=4) / 4000
    # The nucleus of 0.75 is tokens 1 and 2, which together have 0.8.
    expected = probabilities if top_p == 1.0 else torch.tensor([0.0, 0.625, 0.375, 0.0])
    assert torch.allclose(shares, expected, atol=1e-3)


def test_an_impossible_token_is_never_drawn() -> None:
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for number in (0.0, 0.5, 1 - 1e-16):
        assert draw_tokens(scores, torch.tensor([[number]], dtype=torch.float64), 1.0).item() == 1


def test_a_models_own_generation_settings_are_switched_off() -> None:
    model = tiny_model()
    plain = answer(model, PROMPTS), answer(model, PROMPTS, temperature=0.0)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.no_repeat_ngram_size = 2
    model.generation_config.top_k = 1
    model.generation_config.temperature = 0.1
    assert (answer(model, PROMPTS), answer(model, PROMPTS, temperature=0.0)) == plain


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_model_answers_by_the_attention_that_it_came_with(kind: str) -> None:
    model = tiny_model(kind)
    came_with = model.config._attn_implementation
    before = answer(model, PROMPTS)
    assert probe(model).packed
    tree = model.config._attn_implementation
    with original_attention(model):
        assert model.config._attn_implementation == came_with
    assert answer(model, PROMPTS) == before
    assert model.config._attn_implementation == tree
