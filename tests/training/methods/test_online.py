"""PPO and GRPO on sampled numbers: what is kept of them, and the losses, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from palate.config.run import GrpoConfig, PpoConfig
from palate.models.scoring.logps import Logps
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.meters import Meter
from palate.training.methods.base import summarise
from palate.training.methods.grpo import Grpo
from palate.training.methods.online import GIVEN, Sampled, global_whitened, sampled_metrics
from palate.training.methods.ppo import Ppo

COMMON: dict[str, Any] = {
    "model_name_or_path": "m", "dataset": "d", "output_dir": "o", "rewards": "length", "max_new_tokens": 4,
}  # fmt: skip
MASK = torch.tensor([[True, True], [True, False], [True, True], [True, True]])


def sampled(scores: list[float], **changed: Any) -> Sampled:
    values: dict[str, Any] = {
        "ended": torch.ones(4, dtype=torch.bool),
        "logps": torch.zeros(4, 2),
        "ref_logps": torch.zeros(4, 2),
        "values": torch.zeros(4, 2),
        "counted": torch.ones(4, dtype=torch.bool),
    }
    return Sampled(scores=torch.tensor(scores), mask=MASK, **{**values, **changed})


def ppo(**changed: Any) -> Ppo:
    return Ppo(PpoConfig(**COMMON, **changed))


def grpo(**changed: Any) -> Grpo:
    return Grpo(GrpoConfig(**COMMON, **{"num_generations": 2, **changed}))


def test_whitening_over_ranks_is_whitening(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    counted = values[MASK]
    expected = torch.where(MASK, (values - counted.mean()) / counted.std(correction=0), 0.0)
    assert torch.allclose(global_whitened(values, MASK), expected, atol=1e-6)
    kept = global_whitened(values, MASK, centre=False)
    assert kept[MASK].mean() == pytest.approx(values[MASK].mean().item(), abs=1e-6)
    assert kept[MASK].std(correction=0) == pytest.approx(1.0, abs=1e-5)
    # Two ranks with the same values: the sums double, the means stay.
    monkeypatch.setattr("palate.training.methods.online.sum_over_ranks", lambda sums: 2 * sums)
    assert torch.allclose(global_whitened(values, MASK), expected, atol=1e-6)


def test_the_reward_stands_at_the_end_and_a_cut_answer_pays() -> None:
    ended = torch.tensor([True, True, False, True])
    kept = ppo(kl_coef=0.0, lam=1.0, missing_eos_penalty=5.0).prepare(
        sampled([1.0, 2.0, 3.0, 4.0], ended=ended), training=True
    )
    # With values 0 and λ = γ = 1 every token's return is the answer's score.
    assert kept["returns"].tolist() == [[1.0, 1.0], [2.0, 0.0], [-2.0, -2.0], [4.0, 4.0]]
    assert kept["advantages"][MASK].mean() == pytest.approx(0.0, abs=1e-6)


def test_the_kl_is_taken_off_token_by_token() -> None:
    kept = ppo(kl_coef=0.5, lam=1.0).prepare(sampled([0.0] * 4, logps=torch.ones(4, 2)), training=True)
    assert kept["returns"][0].tolist() == [-1.0, -0.5]


def test_the_coefficient_follows_the_kl_and_survives() -> None:
    method = ppo(kl_coef=0.1, ppo_target=1.0, kl_horizon=10)
    far = sampled([0.0] * 4, logps=torch.ones(4, 2))
    method.prepare(far, training=False)
    assert method.kl_coef == 0.1, "held-out prompts teach it nothing"
    method.prepare(far, training=True)
    assert method.kl_coef == pytest.approx(0.1 * (1 + 0.2 * 4 / 10))
    other = ppo(kl_coef=0.1)
    other.state = method.state
    assert other.kl_coef == method.kl_coef


def test_running_deviation_is_that_of_all_scores_so_far() -> None:
    method = ppo(ppo_score_norm=True, kl_coef=0.0, lam=1.0)
    batches = [[1.0, 2.0, 3.0, 4.0], [10.0, 0.0, 5.0, 5.0]]
    kept = [method.prepare(sampled(scores), training=True) for scores in batches][-1]
    everything = torch.tensor([score for scores in batches for score in scores])
    expected = (torch.tensor(batches[1]) - everything.mean()) / everything.std()
    assert torch.allclose(kept["returns"][:, 0], expected, atol=1e-5)


def test_rows_that_even_out_ranks_move_no_statistic() -> None:
    counted = torch.tensor([True, True, False, False])
    method = grpo(scale_rewards="batch")
    few = method.prepare(sampled([0.0, 1.0, 50.0, -50.0], counted=counted), training=True)["advantages"]
    assert few[:2].tolist() == pytest.approx([-0.5 / (0.5**0.5 + 1e-4), 0.5 / (0.5**0.5 + 1e-4)])


def test_rloo_compares_with_the_others_and_pays_for_the_kl() -> None:
    logps = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    kept = grpo(advantage_estimator="rloo", kl_coef=0.5).prepare(
        sampled([3.0, 1.0, 0.0, 0.0], logps=logps), training=True
    )
    assert kept["advantages"].tolist() == [1.0, -1.0, 0.0, 0.0]


# ---- losses of one group with two answers of two tokens and one


@dataclass
class Rows:
    groups: list[EncodedGroup]
    completion_of: torch.Tensor
    group_of: torch.Tensor
    completions: int


def rows(seen: dict[str, float] | None = None, **tokens: list[float]) -> Rows:
    completions = tuple(EncodedCompletion(np.zeros(n, np.int32), np.ones(n, np.bool_)) for n in (2, 1))
    kept = {name: np.array(value, np.float32) for name, value in tokens.items()}
    group = EncodedGroup("g", np.zeros(1, np.int32), completions, tokens=kept, metrics=seen or {})
    return Rows([group], torch.tensor([0, 0, 1]), torch.tensor([0, 0]), 2)


def logps(values: list[float]) -> Logps:
    token = torch.tensor(values, requires_grad=True)
    return Logps(torch.stack([token[:2].sum(), token[2]]), torch.tensor([2.0, 1.0]), token)


@pytest.mark.parametrize(
    ("kind", "expected"),
    # The ratio is 1 and the KL 0, so the loss of a token is −A: answers have means −1 and −4.
    [("grpo", -2.5), ("dapo", -2.0), ("dr_grpo", (-2 / 4 - 4 / 4) / 2)],
)
def test_how_tokens_are_averaged(kind: str, expected: float) -> None:
    given = rows(old_logps=[0.0] * 3, ref_logps=[-1.0, -2.0, -3.0], advantages=[1.0, 1.0, 4.0])
    output = grpo(grpo_loss=kind).loss(logps([-1.0, -2.0, -3.0]), None, given)
    assert output.loss.tolist() == pytest.approx([expected])


def test_the_gradient_raises_what_has_an_advantage() -> None:
    given = rows(old_logps=[0.0] * 3, ref_logps=[-1.0] * 3, advantages=[1.0, 1.0, -1.0])
    policy = logps([-1.0, -1.0, -1.0])
    grpo(kl_coef=0.0).loss(policy, None, given).loss.sum().backward()
    assert policy.token_logps.grad is not None
    assert policy.token_logps.grad.tolist() == pytest.approx([-0.25, -0.25, 0.5])


def test_ppo_clips_the_ratio_and_weighs_the_values() -> None:
    given = rows(
        old_logps=[0.0] * 3,
        old_values=[0.0] * 3,
        returns=[2.0] * 3,
        advantages=[1.0, -1.0, 1.0],
        kl_coef=[0.05] * 3,
    )
    policy = replace(logps(np.log([2.0, 2.0, 1.0]).tolist()), values=torch.tensor([0.1, 0.1, 0.1]))
    output = ppo(vf_coef=0.5).loss(policy, None, given)
    value = 0.5 * 1.9**2
    assert output.loss.tolist() == pytest.approx([(-1.2 + 2.0 - 1.0) / 3 + 0.5 * value])
    assert output.metrics["clip_fraction"].tolist() == pytest.approx([2 / 3])


def means_of(groups: list[EncodedGroup]) -> dict[str, float]:
    """What is logged of the answers of these groups, weighted as PPO weights its loss."""
    meter = Meter(torch.device("cpu"))
    values, own_weights = sampled_metrics(groups, torch.device("cpu"))
    meter.add(values, torch.tensor([ppo().traits.weight(group) for group in groups]), own_weights)
    return summarise(meter.means())


def test_metrics_of_answers_do_not_weigh_by_tokens() -> None:
    short = rows({"reward": 1.0, GIVEN + "reward": 1.0}).groups[0]
    long = replace(short, completions=short.completions * 3, metrics={"reward": 5.0, GIVEN + "reward": 1.0})
    assert [ppo().traits.weight(group) for group in (short, long)] == [3.0, 9.0]
    assert means_of([short, long]) == {"reward": pytest.approx(3.0)}


def test_a_reward_is_averaged_over_the_answers_that_have_it() -> None:
    """Of two answers each: both have a reward, 3 in the mean; one has 5; none has any."""
    given = [(3.0, 1.0), (2.5, 0.5), (0.0, 0.0)]
    groups = [rows({"reward": mean, GIVEN + "reward": share}).groups[0] for mean, share in given]
    assert means_of(groups) == {"reward": pytest.approx((2 * 3 + 5) / 3), "unrewarded": pytest.approx(0.5)}
    assert means_of(groups[:1]) == {"reward": 3.0}
    none = means_of(groups[2:])
    assert none["unrewarded"] == 1.0
    assert math.isnan(none["reward"])
