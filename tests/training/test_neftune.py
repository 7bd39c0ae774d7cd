"""Runs with NEFTune: which passes are noisy, and that a run can be repeated and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.errors import ConfigError
from palate.training.scoring import Scoring
from runs import config, distance, logged, metrics, pairs, run, run_json, write_rows

SHAPE: dict[str, Any] = {"per_device_train_batch_size": 4, "learning_rate": 1e-9}
NOISE: dict[str, Any] = {**SHAPE, "neftune_noise_alpha": 15}


def held_out(folder: Path) -> dict[str, str]:
    return {"eval_dataset": str(write_rows(folder / "held_out.jsonl", pairs(4, seed=5)))}


@pytest.mark.parametrize(("stage", "kind"), [("sft", "full"), ("dpo", "lora"), ("dpo", "freeze"), ("rm", "full")])
def test_training_is_noisy_and_evaluation_is_not(model: Path, tmp_path: Path, stage: str, kind: str) -> None:
    shape = {"stage": stage, "finetuning_type": kind, **held_out(tmp_path)}
    # A head that starts at 0 gives rewards of 0, noisy or not: let it move a little.
    rate = {"learning_rate": 1e-2} if stage == "rm" else {}
    run(model, tmp_path / "noisy", **{**NOISE, **rate}, **shape)
    run(model, tmp_path / "plain", **{**SHAPE, **rate}, **shape)
    noisy, plain = metrics(tmp_path / "noisy"), metrics(tmp_path / "plain")
    if stage == "rm":
        assert abs(noisy[-1]["loss"] - plain[-1]["loss"]) > 1e-6
        return
    name = {"sft": "loss", "dpo": "rewards/margins"}[stage]
    assert abs(noisy[0][name] - plain[0][name]) > 1e-3
    ours, theirs = (metrics(tmp_path / one, "eval")[0] for one in ("noisy", "plain"))
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    if stage == "dpo":
        assert noisy[0]["ref_logps/chosen"] == pytest.approx(plain[0]["ref_logps/chosen"], abs=1e-4)
        assert plain[0]["rewards/margins"] == 0.0


@pytest.mark.parametrize("loss", ["kto", "bco"])
def test_both_passes_of_a_coupled_step_get_the_same_noise(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    seen: list[tuple[bool, torch.Tensor]] = []
    original = Scoring.forward

    def recorded(self: Scoring, policy: Any, batch: Any) -> Any:
        output = original(self, policy, batch)
        seen.append((torch.is_grad_enabled(), output.logps.detach().clone()))
        return output

    monkeypatch.setattr(Scoring, "forward", recorded)
    run(model, tmp_path / "run", **NOISE, stage="kto", pref_loss=loss, max_tokens_per_batch=60, max_steps=1)
    first = [logps for gradient, logps in seen if not gradient]
    second = [logps for gradient, logps in seen if gradient]
    assert len(first) > 1
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    monkeypatch.undo()
    run(model, tmp_path / "plain", **SHAPE, stage="kto", pref_loss=loss, max_tokens_per_batch=60, max_steps=1)
    noisy, plain = metrics(tmp_path / "run")[0], metrics(tmp_path / "plain")[0]
    assert abs(noisy["logps/chosen"] - plain["logps/chosen"]) > 1e-3
    assert noisy["ref_logps/chosen"] == pytest.approx(plain["ref_logps/chosen"], abs=1e-4)


@pytest.mark.parametrize("stage", ["sft", "kto"])
def test_resumed_equals_uninterrupted(model: Path, tmp_path: Path, stage: str) -> None:
    shape = {**NOISE, "learning_rate": 5e-3, "stage": stage, "num_train_epochs": 2, "save_strategy": "steps"}
    run(model, tmp_path / "whole", **shape, save_steps=1)
    named = str(tmp_path / "whole" / "checkpoint-3")
    run(model, tmp_path / "again", **shape, save_steps=1, resume_from_checkpoint=named)
    assert distance(tmp_path / "whole", tmp_path / "again") == 0.0
    assert logged(tmp_path / "again")[-1] == logged(tmp_path / "whole")[-1]


def test_a_trunk_is_not_kept_where_its_input_is_noisy(model: Path, tmp_path: Path) -> None:
    shape = {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "num_train_epochs": 2}
    run(model, tmp_path / "run", **NOISE, **shape)
    margins = [row["rewards/margins"] for row in metrics(tmp_path / "run")]
    assert len(set(margins)) == len(margins), "the same noise in every epoch"
    assert run_json(tmp_path / "run")["status"] == "completed"


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_sampling_stages_have_none(model: Path, tmp_path: Path, stage: str) -> None:
    """Their ratio π/π_old would be noise."""
    with pytest.raises(ConfigError, match=f"neftune_noise_alpha belongs to stage .* this config says stage: {stage}"):
        config(
            model,
            tmp_path / "run",
            stage=stage,
            neftune_noise_alpha=5,
            rewards="length:shorter",
            reference_cache=None,
            sample_prompts=None,
        )
