"""A run with the load-balancing term: it trains, is logged, and does not depend on how a step is split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from palate.artifacts import read_json
from palate.errors import ConfigError
from runs import distance, metrics, run
from tiny import PACKED, save_tiny

SHAPE = {"rows": 6, "per_device_train_batch_size": 3, "max_steps": 2}


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(
        tmp_path_factory.mktemp("moe") / "mixtral", "mixtral", num_local_experts=4, output_router_logits=True
    )


def lines(folder: Path) -> str:
    return "\n".join(read_json(folder / "run.json")["notices"])


def test_it_is_logged_beside_the_loss_and_moves_the_routers(mixtral: Path, tmp_path: Path) -> None:
    run(mixtral, tmp_path / "on", **SHAPE)
    run(mixtral, tmp_path / "off", **SHAPE, moe_aux_loss_coef=0.0)
    first, off = metrics(tmp_path / "on")[0], metrics(tmp_path / "off")[0]
    assert first["loss"] == pytest.approx(off["loss"]) == pytest.approx(0.6931, abs=1e-3)
    assert first["aux_loss"] == pytest.approx(2.0, abs=0.2)
    assert "aux_loss" not in off
    assert first["grad_norm"] != pytest.approx(off["grad_norm"], rel=1e-6)
    assert "0.001 × the load-balancing term" in lines(tmp_path / "on")
    assert "load-balancing" not in lines(tmp_path / "off")


@pytest.mark.parametrize("loss", ["sigmoid", "aot"])
def test_it_does_not_depend_on_how_a_step_is_split(mixtral: Path, tmp_path: Path, loss: str) -> None:
    """aot couples the step, which is then scored twice."""
    changed = {**SHAPE, "moe_aux_loss_coef": 1.0, "pref_loss": loss, "optim": "sgd", "learning_rate": 1e-2}
    run(mixtral, tmp_path / "whole", **changed)
    run(mixtral, tmp_path / "parts", **changed, max_tokens_per_batch=1)
    run(mixtral, tmp_path / "padded", **changed, attention="padded")
    one, other = metrics(tmp_path / "whole"), metrics(tmp_path / "parts")
    assert one[0]["aux_loss"] == pytest.approx(other[0]["aux_loss"], abs=1e-5)
    assert distance(tmp_path / "whole", tmp_path / "parts") < 1e-5
    assert distance(tmp_path / "whole", tmp_path / "padded") < 1e-5


def test_lora_says_what_it_leaves_alone(mixtral: Path, tmp_path: Path) -> None:
    run(mixtral, tmp_path / "run", **SHAPE, finetuning_type="lora")
    said = lines(tmp_path / "run")
    assert "lora_target: all adapts k_proj, o_proj, q_proj, v_proj; the routers (gate) and the experts are left" in said


def test_a_model_with_experts_and_no_term_says_so(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "mixtral", "mixtral", num_local_experts=4)
    run(model, tmp_path / "run", **SHAPE)
    assert "no load-balancing term; moe_aux_loss_coef adds one" in lines(tmp_path / "run")


def test_a_model_without_experts_cannot_have_it(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "llama", num_hidden_layers=PACKED["llama"]["num_hidden_layers"])
    with pytest.raises(ConfigError, match=r"moe_aux_loss_coef: 0\.1 cannot be applied: the model has no experts"):
        run(model, tmp_path / "run", **SHAPE, moe_aux_loss_coef=0.1)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("tuning", [{}, {"finetuning_type": "freeze", "freeze_trainable_layers": 1}], ids=str)
@pytest.mark.parametrize("stage", ["dpo", "rm"])
def test_a_checkpoint_brings_the_experts_back(
    mixtral: Path, tmp_path: Path, stage: str, tuning: dict[str, object]
) -> None:
    """transformers stores each expert under a name of its own, which Trainer does not find in the model."""
    changed = {**SHAPE, "stage": stage, "max_steps": 4, "save_strategy": "steps", "save_steps": 1, **tuning}
    run(mixtral, tmp_path / "whole", **changed)
    named = str(tmp_path / "whole" / "checkpoint-2")
    run(mixtral, tmp_path / "again", **changed, resume_from_checkpoint=named)
    assert distance(tmp_path / "whole", tmp_path / "again") == 0.0
    assert metrics(tmp_path / "again")[-1]["loss"] == metrics(tmp_path / "whole")[-1]["loss"]


def test_the_best_checkpoint_brings_its_own_experts(mixtral: Path, tmp_path: Path) -> None:
    when = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "val_size": 2}
    first = {"load_best_model_at_end": True, "metric_for_best_model": "rewards/margins", "greater_is_better": False}
    run(mixtral, tmp_path / "run", **{**SHAPE, "max_steps": 3}, **when, **first)
    margins = {row["step"]: row["rewards/margins"] for row in metrics(tmp_path / "run", "eval")}
    best = min(margins, key=lambda step: margins[step])
    assert best < max(margins)
    assert distance(tmp_path / "run", tmp_path / "run" / f"checkpoint-{best}") == 0.0
