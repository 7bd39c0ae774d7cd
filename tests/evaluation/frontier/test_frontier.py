"""Reward against KL: the KL against sums over the whole vocabulary, intervals against hand computations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.data.scores import length_score
from palate.errors import DataError, FunctionError, ModelError, UsageError
from palate.evaluation.frontier import Frontier, FrontierModel, measure_frontier
from palate.evaluation.subject import ModelSpec
from palate.records import Message, Messages, Record
from palate.stats import rate_interval
from tiny import save_tiny, tiny_tokenizer


def record(text: str) -> Record:
    return Record(id=text, prompt=(Message("user", text),))


PROMPTS = [record(text) for text in ("what is it", "why", "who said this and that")]
LENGTH = {"length": length_score("longer", "reward")}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same tokenizer as `model`."""
    return save_tiny(tmp_path_factory.mktemp("policy") / "llama", seed=5, initializer_range=0.2)


def measured(policy: Path, reference: Path, **changed: Any) -> Frontier:
    given = {"rewards": LENGTH, "prompts": PROMPTS, "max_new_tokens": 2, "precision": "fp32", **changed}
    point = FrontierModel("policy", ModelSpec("policy", str(policy)), "run", "dpo", 7)
    return measure_frontier([point], ModelSpec("reference", str(reference)), **given)


def log_softmax(folder: Path, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """float64 [rows, V] after the last token of rows of equal length."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor(rows)).logits[:, -1]
    return logits.log_softmax(-1)


def exact_kl(policy: Path, reference: Path, prompt: Messages, length: int) -> float:
    """KL of answers of at most one or two tokens, summed over all of them."""
    tokenizer: Any = AutoTokenizer.from_pretrained(policy)
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ours, theirs = log_softmax(policy, [ids])[0], log_softmax(reference, [ids])[0]
    total = float((ours.exp() * (ours - theirs)).sum())
    if length == 2:
        rows = [[*ids, token] for token in range(len(ours))]
        after, before = log_softmax(policy, rows), log_softmax(reference, rows)
        second = (after.exp() * (after - before)).sum(-1)
        second[tokenizer.eos_token_id] = 0  # such an answer has ended
        total += float((ours.exp() * second).sum())
    return total


def test_the_kl_of_one_token_is_exact(policy: Path, model: Path) -> None:
    point = measured(policy, model, max_new_tokens=1, samples=3)
    for answer in point.answers[9:]:
        want = exact_kl(policy, model, PROMPTS[answer.prompt].prompt, 1)
        assert answer.kl == pytest.approx(want, rel=1e-4)
    want = np.mean([exact_kl(policy, model, one.prompt, 1) for one in PROMPTS])
    assert point.points[1].kl.estimate == pytest.approx(want, rel=1e-4)


def test_both_estimates_of_the_kl_are_unbiased_and_one_is_narrower(policy: Path, model: Path) -> None:
    """600 answers a prompt: each estimate within four standard errors (of its answers) of the sum over all answers."""
    found = measured(policy, model, samples=600)
    for place, one in enumerate(PROMPTS):
        want = exact_kl(policy, model, one.prompt, 2)
        mine = [answer for answer in found.answers if answer.point == "policy" and answer.prompt == place]
        exact = np.array([answer.kl for answer in mine])
        plain = np.array([answer.logp - answer.ref_logp for answer in mine])
        for values in (exact, plain):
            assert abs(values.mean() - want) < 4 * values.std(ddof=1) / math.sqrt(600)
        assert exact.std() < 0.5 * plain.std()


def test_the_reference_is_a_point_at_zero(policy: Path, model: Path) -> None:
    first = measured(policy, model).points[0]
    assert (first.name, first.reference) == ("reference", True)
    for interval in (first.kl, first.kl_sampled):
        assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)
    assert (first.kl_error, first.kl_sampled_error) == (0, 0)


def test_the_same_weights_are_at_zero_too_and_answer_alike(model: Path) -> None:
    """The same random numbers for every point."""
    found = measured(model, model, max_new_tokens=8)
    assert found.points[1].kl.estimate == 0
    before, after = found.answers[:12], found.answers[12:]
    assert [answer.text for answer in before] == [answer.text for answer in after]
    assert found.points[0].identity == found.points[1].identity


def test_the_unit_is_the_prompt(policy: Path, model: Path) -> None:
    found = measured(policy, model, samples=5, max_new_tokens=6)
    point = found.points[1]
    mine = found.answers[15:]
    for interval, values in (
        (point.rewards["length"], [answer.rewards["length"] for answer in mine]),
        (point.kl, [answer.kl for answer in mine]),
        (point.kl_sampled, [answer.logp - answer.ref_logp for answer in mine]),
        (point.tokens, [answer.tokens for answer in mine]),
    ):
        means = np.array(values, dtype=float).reshape(3, 5).mean(1)
        error = means.std(ddof=1) / math.sqrt(3)
        half = stats.t.ppf(0.975, 2) * error
        assert interval.estimate == pytest.approx(means.mean())
        assert (interval.low, interval.high) == pytest.approx((means.mean() - half, means.mean() + half))
        assert interval.n == 3
    assert point.ended == rate_interval([answer.ended for answer in mine], clusters=np.repeat(range(3), 5).tolist())
    assert 0 <= point.distinct.low <= point.distinct.high <= 1
    kl = np.array([answer.kl for answer in mine]).reshape(3, 5).mean(1)
    assert point.kl_error == pytest.approx(kl.std(ddof=1) / math.sqrt(3))


def test_a_prompt_given_twice_is_one_unit(policy: Path, model: Path) -> None:
    point = measured(policy, model, prompts=[*PROMPTS, PROMPTS[0]], samples=2).points[1]
    assert {one.n for one in (point.kl, point.tokens, point.ended, point.distinct, point.rewards["length"])} == {3}


def test_answers_say_what_they_are(policy: Path, model: Path) -> None:
    found = measured(policy, model, samples=4, max_new_tokens=60)
    mine = [answer for answer in found.answers if answer.point == "policy"]
    assert [(answer.prompt, answer.sample) for answer in mine] == [(i, k) for i in range(3) for k in range(4)]
    assert all(answer.rewards["length"] == len(answer.text.strip()) for answer in mine)
    assert all(answer.ended or answer.tokens == 60 for answer in mine)
    assert found.points[1].ended.estimate == pytest.approx(np.mean([answer.ended for answer in mine]))
    assert found.points[1].ended.estimate > 0  # 4 × 3 answers of at most 60 tokens, of 320 which one ends them
    written = found.to_json()
    assert written["points"][1]["rewards"]["length"]["n"] == 3
    assert (written["points"][1]["step"], written["points"][1]["method"]) == (7, "dpo")
    assert found.answer_rows()[0]["point"] == "reference"


def test_distinct_answers(policy: Path, model: Path) -> None:
    """Of 400 one-token answers to a prompt hardly more than the vocabulary differ."""
    found = measured(policy, model, samples=400, max_new_tokens=1)
    shares = []
    for prompt in range(3):
        shares.append(len({a.text for a in found.answers if a.point == "policy" and a.prompt == prompt}) / 400)
    assert found.points[1].distinct.estimate == pytest.approx(np.mean(shares))
    assert found.points[1].distinct.estimate < 0.9


def test_long_prompts_are_left_out_for_all(policy: Path, model: Path) -> None:
    long = record("and this is " * 60)
    found = measured(policy, model, prompts=[PROMPTS[0], long, PROMPTS[1]], cutoff_len=100)
    assert (found.prompts, found.left_out) == (2, 1)
    with pytest.raises(DataError, match="no prompt leaves room"):
        measured(policy, model, prompts=[long], cutoff_len=100)


def test_what_cannot_be_compared_is_refused(policy: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reward is named"):
        measured(policy, model, rewards={})
    with pytest.raises(UsageError, match="samples 0"):
        measured(policy, model, samples=0)
    twice = [FrontierModel("a", ModelSpec("a", str(policy)))] * 2
    with pytest.raises(UsageError, match="two points are called a"):
        measure_frontier(twice, ModelSpec("r", str(model)), PROMPTS, LENGTH)
    other = save_tiny(tmp_path / "other", tokenizer=tiny_tokenizer(texts=["zebra quagga okapi"] * 9))
    asked: list[str] = []

    def reward(_: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        asked.extend(completions)
        return [0.0] * len(completions)

    with pytest.raises(ModelError, match="policy: its tokenizer is not that of the reference"):
        measured(other, model, rewards={"counted": reward})
    assert not asked  # nothing was sampled before it was said, not even of the reference
    with pytest.raises(ModelError, match="chat template writes prompts in another way"):
        measure_frontier(
            [FrontierModel("a", ModelSpec("a", str(policy), template="alpaca"))],
            ModelSpec("r", str(model)),
            PROMPTS,
            LENGTH,
        )


@pytest.mark.parametrize("given", [[1.0], [float("nan")] * 12, 3])
def test_a_reward_that_gives_something_else(policy: Path, model: Path, given: Any) -> None:
    with pytest.raises(FunctionError, match="reward odd gave"):
        measured(policy, model, rewards={"odd": lambda prompts, completions: given})
