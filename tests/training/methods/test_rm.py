"""Reward models: losses by hand, a run that learns, and transformers scoring with what it leaves, alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from palate.cli.main import main
from palate.errors import DataError, ModelError
from palate.evaluation.accuracy.rewards import is_reward_model, load_reward_model
from palate.evaluation.subject import ModelSpec, read_run
from palate.models.precision import FP32
from palate.models.reward_model import RewardModel
from palate.records import Message
from palate.text.batch import pack
from palate.training.methods import build_method
from palate.training.setup.dataset import build_data
from palate.training.setup.session import prepare
from runs import config, metrics, pairs, run, run_json, weights, write_rows
from tiny import method_of, random_groups, save_tiny

CPU = torch.device("cpu")
SIDES = ("chosen", "rejected")


def lσ(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_choices_by_hand_with_margins_and_centring() -> None:
    groups = [replace(g, margin=2.0) if i else g for i, g in enumerate(random_groups(2))]
    method = method_of("rm", center_rewards_coefficient=0.1, margin_weight=0.5)
    output = method.loss(torch.tensor([1.0, -1.0, 0.5, 2.0]), None, pack(groups))
    expected = [-lσ(2.0), -lσ(0.5 - 2.0 - 0.5 * 2.0) + 0.1 * 2.5**2]
    assert output.loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert output.metrics["rewards/accuracies"].tolist() == [1.0, 0.0]


def test_scores_by_hand() -> None:
    groups = [replace(g, labels=(0.25,)) for g in random_groups(1, 1)]
    output = method_of("rm", pref_loss="reward_regression").loss(torch.tensor([0.0]), None, pack(groups))
    assert output.loss.tolist() == [0.0625]
    assert output.metrics["absolute_error"].tolist() == [0.25]


def test_margins_that_no_row_has_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has a margin"):
        run(model, tmp_path / "run", stage="rm", margin_weight=1.0)


TUNED: dict[str, dict[str, Any]] = {
    "full": {},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "padded": {"attention": "padded"},
}


@pytest.mark.parametrize("kind", TUNED)
def test_transformers_scores_with_the_run_alone(model: Path, tmp_path: Path, kind: str) -> None:
    """The rewards that the run logged on held-out pairs are what transformers computes from the folder."""
    held_out = write_rows(tmp_path / "held_out.jsonl", pairs(5, seed=9))
    changed = {"stage": "rm", "num_train_epochs": 8, "per_device_train_batch_size": 8, "learning_rate": 1e-2}
    run(model, tmp_path / "run", **changed, eval_dataset=str(held_out), **TUNED[kind])
    history = metrics(tmp_path / "run")
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # the head starts at 0
    assert history[-1]["rewards/accuracies"] == 1.0

    alone = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert tokenizer.pad_token_id == alone.config.pad_token_id != tokenizer.eos_token_id
    rewards = []
    for row in pairs(5, seed=9):
        question = {"role": "user", "content": row["prompt"]}
        turns = [[question, {"role": "assistant", "content": row[side]}] for side in SIDES]
        texts = [tokenizer.apply_chat_template(one, tokenize=False).rstrip("\n") for one in turns]
        with torch.no_grad():
            rewards.append(alone(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0].tolist())
    asked = [(Message("user", row["prompt"]),) for row in pairs(5, seed=9)]
    ours = [RewardModel(tmp_path / "run", device=CPU)(asked, [row[side] for row in pairs(5, seed=9)]) for side in SIDES]
    assert pytest.approx(np.array(rewards), abs=1e-5) == np.array(ours).T
    [evaluated] = metrics(tmp_path / "run", "eval")
    chosen, rejected = np.array(rewards).T
    assert evaluated["rewards/chosen"] == pytest.approx(chosen.mean(), abs=1e-5)
    assert evaluated["rewards/rejected"] == pytest.approx(rejected.mean(), abs=1e-5)
    assert evaluated["rewards/accuracies"] == pytest.approx((chosen > rejected).mean())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "gemma2", "qwen2"])
def test_packed_rewards_equal_padded_ones(tmp_path: Path, kind: str) -> None:
    folder = save_tiny(tmp_path / kind, kind, initializer_range=0.2)
    shape = {"stage": "rm", "rows": 6, "per_device_train_batch_size": 6, "max_steps": 3}
    run(folder, tmp_path / "packed", **shape)
    run(folder, tmp_path / "padded", **shape, attention="padded")
    assert run_json(tmp_path / "packed")["attention"] == "tree"
    for one, other in zip(metrics(tmp_path / "packed"), metrics(tmp_path / "padded"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert metrics(tmp_path / "packed")[-1]["loss"] < 0.69


def test_an_adapter_carries_its_head(model: Path, tmp_path: Path) -> None:
    changed = {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 1e-2, "num_train_epochs": 6}
    run(model, tmp_path / "run", stage="rm", per_device_train_batch_size=8, **changed)
    spec = read_run(tmp_path / "run").policy
    assert is_reward_model(spec)
    assert not is_reward_model(ModelSpec("start", str(model)))
    built = config(model, tmp_path / "again", stage="rm")
    session = prepare(built)
    groups = build_data(built, build_method(built), session.template).train
    rewards = load_reward_model(spec, FP32, CPU).score(groups)
    assert np.mean([chosen > rejected for chosen, rejected in rewards]) == 1.0
    assert any("score" in name for name in weights(tmp_path / "run"))
    # As a reward or a judge names it: by its folder alone.
    asked = [((Message("user", row["prompt"]),), row[side]) for row in pairs(8) for side in ("chosen", "rejected")]
    scores = RewardModel(tmp_path / "run")([prompt for prompt, _ in asked], [answer for _, answer in asked])
    assert scores == pytest.approx(np.concatenate(rewards), abs=1e-4)


def test_a_policys_adapter_is_no_reward_model(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", finetuning_type="lora", lora_rank=2, max_steps=1)
    with pytest.raises(ModelError, match="its adapter is not a reward model's"):
        RewardModel(tmp_path / "run")


def test_eval_accuracy_knows_a_reward_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(model, tmp_path / "run", stage="rm", rows=20, val_size=0.3, num_train_epochs=2, per_device_train_batch_size=4)
    capsys.readouterr()
    assert main(["eval", "accuracy", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    [evaluated] = metrics(tmp_path / "run", "eval")
    share = 100 * evaluated["rewards/accuracies"]
    assert shown.startswith(f"Reward Accuracy: {share:.1f}% (95 % ")
    assert "on 6 held-out pairs" in shown
    assert main(["eval", "accuracy", str(tmp_path / "run"), "--reference", str(model)]) == 2
    assert "has no reference" in capsys.readouterr().err
