"""Every option of ppo and grpo, from the config to what its method makes of the same sampled answers, or to the run.

The others' walk is in test_options.py; the keys of an engine are in tests/training/online/test_policy_engine.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.config.load import config_from_values
from palate.config.stages.online import GrpoFields, PpoFields
from palate.config.stages.rollout import RolloutFields
from palate.models.scoring.logps import TokenLogps, per_completion
from palate.text.batch import pack
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.methods import build_method
from palate.training.methods.online import OnlineMethod, Sampled
from palate.training.online.rollouts import with_longest_answers
from runs import metrics, run, write_rows
from tiny import save_tiny

COMMON: dict[str, Any] = {
    "model_name_or_path": "m",
    "dataset": "d",
    "output_dir": "o",
    "rewards": "length:longer",
    "max_new_tokens": 4,
    "num_generations": 2,
}
# What the method is asked for, and what must be set beside it for the option to have a say.
METHOD: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "num_generations": {"num_generations": 4},
        "max_new_tokens": {"max_new_tokens": 7},
        "ppo_epochs": {"ppo_epochs": 2},
        "kl_coef": {"kl_coef": 0.5},
        "ppo_target": {"ppo_target": 0.5, "kl_horizon": 10},
        "kl_horizon": {"kl_horizon": 10, "ppo_target": 0.5},
        "vf_coef": {"vf_coef": 0.7},
        "cliprange": {"cliprange": 0.05},
        "cliprange_value": {"cliprange_value": 0.01},
        "gamma": {"gamma": 0.5},
        "lam": {"lam": 0.2},
        "ppo_score_norm": {"ppo_score_norm": True},
        "ppo_whiten_rewards": {"ppo_whiten_rewards": True},
        "missing_eos_penalty": {"missing_eos_penalty": 2.0},
    },
    "grpo": {
        "num_generations": {"num_generations": 4},
        "max_new_tokens": {"max_new_tokens": 7},
        "num_iterations": {"num_iterations": 3},
        "kl_coef": {"kl_coef": 0.5},
        "cliprange": {"cliprange": 0.05, "num_iterations": 2},
        "cliprange_high": {"cliprange_high": 0.5, "num_iterations": 2},
        "advantage_estimator": {"advantage_estimator": "rloo"},
        "scale_rewards": {"scale_rewards": "batch"},
        "grpo_loss": {"grpo_loss": "dapo"},
        "missing_eos_penalty": {"missing_eos_penalty": 2.0, "scale_rewards": "none"},
    },
}
# What samples and rewards, and what the KL is taken to: seen in a run.
RUN = ("rewards", "temperature", "top_p", "ref_model")
ENGINE = {"rollout_url", "rollout_model", "rollout_sync"}
LENGTHS = (2, 1, 2, 2)
MASK = torch.tensor([[place < length for place in range(2)] for length in LENGTHS])


def sampled() -> Sampled:
    generator = torch.Generator().manual_seed(5)
    logps, moved, values = (torch.randn(4, 2, generator=generator) for _ in range(3))
    return Sampled(
        scores=torch.tensor([1.0, -2.0, 3.0, 0.5]),
        ended=torch.tensor([True, False, True, True]),
        mask=MASK,
        logps=-1.0 - logps.abs(),
        ref_logps=-1.0 - logps.abs() + 0.3 * moved,
        values=values,
        counted=torch.ones(4, dtype=torch.bool),
    )


def groups_of(kept: Mapping[str, torch.Tensor], k: int) -> list[EncodedGroup]:
    """The four answers as the trainer gets them, with what the method keeps of each token."""
    each = {name: value if value.dim() == 2 else value[:, None].expand(4, 2) for name, value in kept.items()}
    found = []
    for start in range(0, 4, k):
        completions = tuple(
            EncodedCompletion(np.full(n, 7, np.int32), np.ones(n, np.bool_)) for n in LENGTHS[start : start + k]
        )
        here = slice(start, start + k)
        tokens = {name: value[here][MASK[here]].float().numpy() for name, value in each.items()}
        found.append(EncodedGroup(f"g{start}", np.array([3, 4], np.int32), completions, tokens=tokens))
    return found


def outcome(stage: str, given: Mapping[str, Any]) -> list[float]:
    """What the method says of the rollouts, and its losses and their gradient after two batches of answers."""
    config = config_from_values({**COMMON, "stage": stage, **given}).config
    assert isinstance(config, RolloutFields)
    method = build_method(config)
    assert isinstance(method, OnlineMethod)
    method.prepare(replace(sampled(), scores=torch.tensor([4.0, 0.0, -1.0, 2.0])), training=True)
    kept = method.prepare(sampled(), training=True)
    groups = groups_of(kept, method.generations)
    batch = pack(groups)
    generator = torch.Generator().manual_seed(9)
    count = batch.target_ids.numel()
    old = torch.cat([torch.from_numpy(group.tokens["old_logps"]) for group in groups])
    logps = (old + 0.6 * torch.randn(count, generator=generator)).requires_grad_()
    values = torch.randn(count, generator=generator)
    losses = method.loss(per_completion(TokenLogps(logps, None, values), batch), None, batch).loss
    [gradient] = torch.autograd.grad(losses.sum(), logps)
    longest = with_longest_answers(groups, method.generations, config.max_new_tokens)[0].packed_tokens
    weights = [method.traits.weight(group) for group in groups]
    return [
        float(value)
        for value in (method.generations, method.updates, longest, *weights, *losses.tolist(), *gradient.tolist())
    ]


def test_every_option_is_walked() -> None:
    for stage, own in (("ppo", PpoFields), ("grpo", GrpoFields)):
        assert set(METHOD[stage]) | set(RUN) | ENGINE == {*own.model_fields, *RolloutFields.model_fields}


@pytest.mark.parametrize(("stage", "key"), [(stage, key) for stage, keys in METHOD.items() for key in keys])
def test_an_option_reaches_the_method(stage: str, key: str) -> None:
    given = METHOD[stage][key]
    beside = {other: value for other, value in given.items() if other != key}
    before, after = outcome(stage, beside), outcome(stage, given)
    assert outcome(stage, beside) == before
    assert len(before) != len(after) or max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-5


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_an_option_of_the_rollouts_reaches_the_run(model: Path, tmp_path: Path, stage: str) -> None:
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    other = save_tiny(tmp_path / "other", seed=3, initializer_range=0.2)
    values = {"rewards": "length:shorter", "temperature": 0.3, "top_p": 0.5, "ref_model": str(other)}
    assert set(values) == set(RUN)
    seen = {}
    for key in ("", *RUN):
        changed = {
            "stage": stage,
            "dataset": str(data),
            "rewards": "length:longer",
            "max_new_tokens": 6,
            "cutoff_len": 64,
            "num_generations": 2,
            "reference_cache": None,
            "per_device_train_batch_size": 4,
            "max_steps": 1,
            **({key: values[key]} if key else {}),
        }
        run(model, tmp_path / f"run-{key}", **changed)
        [row] = metrics(tmp_path / f"run-{key}")
        seen[key] = (row["reward"], row["kl"], row["length"], row["entropy"])
    for key in RUN:
        assert seen[key] != seen[""], key
    assert seen["ref_model"][1] != pytest.approx(0.0, abs=1e-3)
    assert seen["ref_model"][2] == seen[""][2], "another reference changes no answer"
