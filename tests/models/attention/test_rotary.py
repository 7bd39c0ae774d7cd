"""Rotary positions that depend on the length: a row's score is what it is alone, whatever stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from palate.errors import ModelError
from palate.models.attention.rotary import LengthRule, length_rule
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reward_model import RewardModel
from palate.models.scoring.logps import per_completion
from palate.models.scoring.rewards import end_index
from palate.records import Message
from palate.text.batch import pack, pad
from palate.text.groups import EncodedCompletion, EncodedGroup
from tiny import BY_LENGTH, random_groups, save_tiny, stock_score, tiny_model


def groups() -> list[EncodedGroup]:
    """Two short pairs, one long one, and one whose rejected answer alone is beyond the 64 tokens."""
    short = random_groups(2, seed=1)
    [long] = random_groups(1, seed=2, prompt=(80, 80))
    [across] = random_groups(1, seed=3, prompt=(58, 58), answer=(4, 4))
    tokens = np.arange(30, 50, dtype=np.int32)
    more = EncodedCompletion(tokens, np.ones(len(tokens), dtype=bool))
    return [*short, long, replace(across, id="across", completions=(across.completions[0], more))]


def alone(kind: str) -> list[float]:
    """What transformers itself gives each row in a forward pass of its own, by a model that has seen nothing else."""
    return [stock_score(tiny_model(kind), group, number) for group in groups() for number in (0, 1)]


@pytest.mark.parametrize("kind", BY_LENGTH)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_a_score_does_not_depend_on_the_rows_beside_it(kind: str, order: list[int]) -> None:
    model = tiny_model(kind)
    assert not probe(model).packed
    rows = groups()
    batch = pad([rows[number] for number in order])
    with torch.no_grad():
        sums = per_completion(model(**batch.model_inputs()), batch).sums.view(-1, 2)
    expected = torch.tensor(alone(kind)).view(-1, 2)[order]
    torch.testing.assert_close(sums, expected, atol=1e-5 * 20, rtol=1e-5)


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_stock_batches_differ_so_the_test_can_fail(kind: str) -> None:
    model, rows = tiny_model(kind), groups()
    batch = pad(rows)
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()).logits.flatten(0, 1)
    logps = logits[batch.target_index].log_softmax(-1).gather(-1, batch.target_ids[:, None]).squeeze(-1)
    sums = logps.new_zeros(8).index_add(0, batch.completion_of, logps)
    assert float((sums - torch.tensor(alone(kind))).abs().max()) > 0.1


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_gradients_are_those_of_rows_alone(kind: str) -> None:
    def gradient(batches: list[list[EncodedGroup]]) -> torch.Tensor:
        model = tiny_model(kind)
        probe(model)
        for part in batches:
            model(**pad(part).model_inputs()).logps.sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    rows = groups()
    single = [[replace(group, completions=(one,))] for group in rows for one in group.completions]
    torch.testing.assert_close(gradient([rows]), gradient(single), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_rows_within_the_limit_are_packed_and_a_longer_one_is_refused(kind: str) -> None:
    model = tiny_model(kind)
    found = probe(model, longest=64)
    assert found.packed, found.reason
    rows = groups()
    with torch.no_grad():
        sums = per_completion(model(**pack(rows[:2]).model_inputs()), pack(rows[:2])).sums
        torch.testing.assert_close(sums, torch.tensor(alone(kind)[:4]), atol=2e-4, rtol=1e-5)
        with pytest.raises(ModelError, match="beyond 64 tokens"):
            model(**pack(rows).model_inputs())
    assert "cutoff_len: 64" in probe(tiny_model(kind), longest=65).reason


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_answers_do_not_depend_on_the_prompts_beside_them_and_are_what_the_model_says(kind: str) -> None:
    """Across the limit: each token is the likeliest one of a forward pass over all before it."""
    model = tiny_model(kind)
    probe(model)
    random = np.random.default_rng(0)
    prompts = [random.integers(3, 199, n).tolist() for n in (5, 60, 60, 80, 5)]

    def answers(some: list[list[int]]) -> list[list[int]]:
        return generate(model, some, Decoding(8), stop_ids=[2], precision=FP32)

    together = answers(prompts)
    assert together == [answers([prompt])[0] for prompt in prompts]
    for prompt, answer in zip(prompts, together, strict=True):
        ids = list(prompt)
        for token in answer:
            with torch.no_grad():
                logits = tiny_model(kind)(torch.tensor([ids])).logits[0, -1]
            assert int(logits.argmax()) == token
            ids.append(token)


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_rewards_do_not_depend_on_the_rows_beside_them(kind: str) -> None:
    def fresh() -> Any:
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **BY_LENGTH[kind], num_labels=1)
        model = AutoModelForSequenceClassification.from_config(config).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        return model

    state = fresh().state_dict()
    model = fresh()
    model.load_state_dict(state)
    assert not probe(model, head="reward").packed
    rows = groups()
    with torch.no_grad():
        together = model(**pad(rows).model_inputs(), end_index=end_index(pad(rows))).rewards
        expected = []
        for group in rows:
            for one in group.completions:
                ids = np.concatenate([group.prompt_ids, one.ids[: int(np.flatnonzero(one.trained)[-1]) + 1]])
                stock = fresh()
                stock.load_state_dict(state)
                expected.append(stock(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, 0])
    torch.testing.assert_close(together, torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_a_reward_model_scores_an_answer_as_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "lm", "phi3")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    for parameter in model.model.layers.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.config.pad_token_id = 0
    model.save_pretrained(tmp_path / "rm")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "rm" / name).write_bytes((folder / name).read_bytes())
    scorer = RewardModel(tmp_path / "rm")
    prompts = [(Message("user", "why " * n),) for n in (1, 40, 2)]
    together = scorer(prompts, ["it is so"] * 3)
    assert together == pytest.approx([scorer([prompt], ["it is so"])[0] for prompt in prompts], abs=1e-5)


def test_the_rule_is_read_from_either_form_of_the_config() -> None:
    assert length_rule(tiny_model("llama").config) is None
    assert length_rule(tiny_model("phi3").config) == LengthRule("longrope", (64,), each=False)
    assert length_rule(tiny_model("hunyuan_v1_dense").config) == LengthRule("dynamic", (64,), each=True)
    longrope, dynamic = LengthRule("longrope", (64,), each=False), LengthRule("dynamic", (64,), each=True)
    assert [longrope.angles(n) for n in (1, 64, 65, 90)] == [0, 0, 1, 1]
    assert [dynamic.angles(n) for n in (1, 64, 65, 90)] == [64, 64, 65, 90]
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    assert length_rule(AutoConfig.for_model("llama", rope_parameters=yarn)) is None
