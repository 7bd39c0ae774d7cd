"""What users of transformers' Trainer expect of it, and the stop before a bad update."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.artifacts import checkpoints, verify_folder
from palate.errors import NonFiniteError
from palate.training.trainer import PalateTrainer
from runs import distance, metrics, pairs, run, run_json, weights, write_rows


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight turns NaN after step 3: the run stops in step 4, and checkpoint 2 is what it was."""
    finish = PalateTrainer.finish_step

    def finish_and_spoil(self: PalateTrainer) -> dict[str, float]:
        found = finish(self)
        if self.state.global_step == 3:
            with torch.no_grad():
                self.model.model.norm.weight[0] = float("nan")
        return found

    monkeypatch.setattr(PalateTrainer, "finish_step", finish_and_spoil)
    optimiser_steps: list[int] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: (optimiser_steps.append(1), step(*a, **k))[1])
    shape = {"per_device_train_batch_size": 2, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2}
    with pytest.raises(NonFiniteError, match=r"step 4: the loss is not finite for pairs8\.jsonl:\d") as caught:
        run(model, tmp_path / "run", **shape)
    assert len(optimiser_steps) == 3
    assert "learning_rate: 1e-7" in str(caught.value)
    record = run_json(tmp_path / "run")
    assert (record["status"], record["error"]) == ("failed", str(caught.value))
    (kept,) = checkpoints(tmp_path / "run")
    assert kept.name == "checkpoint-2"
    assert verify_folder(kept) == []
    assert all(value.isfinite().all() for value in weights(kept).values())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_deepspeed_too_updates_no_weight_after_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine tells the gradient's norm only after the update, so the losses are looked at before."""
    monkeypatch.setattr("palate.training.trainer.update", lambda _: pytest.fail("the weights were changed"))
    trainer = object.__new__(PalateTrainer)
    vars(trainer).update(
        is_deepspeed_enabled=True,
        deepspeed=None,
        step_groups=[SimpleNamespace(id="a.jsonl:1"), SimpleNamespace(id="a.jsonl:2")],
        state=SimpleNamespace(global_step=6),
        accelerator=SimpleNamespace(scaler=None),
        _step_scope=contextlib.ExitStack(),
        _step_losses=[torch.tensor([0.5, float("nan")])],
        _scoring=SimpleNamespace(reference=None),
    )
    with pytest.raises(NonFiniteError, match=r"step 7: the loss is not finite for a\.jsonl:2; the weights were not"):
        trainer._get_grad_norm(torch.nn.Linear(1, 1))
    trainer._step_losses = [torch.zeros(2)]
    with pytest.raises(NonFiniteError, match=r"norm is inf \(rows a.jsonl:1, .*\); the last checkpoint is from before"):
        trainer._check_finite(math.inf)


def test_a_model_with_a_nan_in_it_names_the_rows(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = float("inf")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=r"step 1: the loss is not finite for pairs2\.jsonl:[12], pairs2\.jsonl"):
        run(broken, tmp_path / "run", rows=2, per_device_train_batch_size=2)
    with pytest.raises(NonFiniteError, match="learning_rate: 1e-7, max_grad_norm") as caught:
        run(broken, tmp_path / "sft", stage="sft", rows=2, per_device_train_batch_size=2)
    assert "pref_beta" not in str(caught.value), "a key that this stage would refuse"


def test_only_the_newest_checkpoints_stay(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", save_strategy="steps", save_steps=2, save_total_limit=2)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-8", "checkpoint-6"]


def held_out(folder: Path) -> str:
    """Pairs that contradict the training ones, so that evaluation gets worse from the first step."""
    rows = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(8)]
    return str(write_rows(folder / "contrary.jsonl", rows))


def test_early_stopping_and_the_best_model(model: Path, tmp_path: Path) -> None:
    shape = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    run(
        model,
        tmp_path / "run",
        **shape,
        eval_dataset=held_out(tmp_path),
        num_train_epochs=4,
        early_stopping_patience=2,
        load_best_model_at_end=True,
    )
    evaluations = metrics(tmp_path / "run", "eval")
    assert [row["step"] for row in evaluations] == [2, 4, 6]  # the best, and two that are worse, of 16
    losses = [row["loss"] for row in evaluations]
    assert losses == sorted(losses)
    assert distance(tmp_path / "run", tmp_path / "run" / "checkpoint-2") == 0.0
    assert run_json(tmp_path / "run")["final_metrics"]["eval_loss"] == losses[0]


def test_the_last_step_is_evaluated_once(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", eval_strategy="steps", eval_steps=4, eval_dataset=held_out(tmp_path))
    found = metrics(tmp_path / "run", "eval")
    assert [row["step"] for row in found] == [4, 8]
    assert run_json(tmp_path / "run")["final_metrics"]["eval_loss"] == found[-1]["loss"]


def test_held_out_rows_are_always_evaluated_at_the_end(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", eval_dataset=held_out(tmp_path))
    assert [row["step"] for row in metrics(tmp_path / "run", "eval")] == [8]


def test_supervised_training_learns_its_demonstrations(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", stage="sft", per_device_train_batch_size=8, num_train_epochs=8, learning_rate=1e-2)
    losses = [row["loss"] for row in metrics(tmp_path / "run")]
    assert losses[-1] < 0.7 * losses[0]
    assert run_json(tmp_path / "run")["reference"]["kind"] == "none"


def test_supervised_loss_is_a_mean_over_tokens_of_the_step(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "one", stage="sft", per_device_train_batch_size=8, max_steps=1, save_strategy="no")
    (row,) = metrics(tmp_path / "one")
    singles = []
    for number, example in enumerate(pairs(8)):
        data = write_rows(tmp_path / f"{number}.jsonl", [example])
        run(model, tmp_path / f"run{number}", stage="sft", dataset=str(data), max_steps=1)
        (one,) = metrics(tmp_path / f"run{number}")
        singles.append((-one["logps/chosen"], -one["logps/chosen"] / one["loss"]))
    nll, tokens = map(sum, zip(*singles, strict=True))
    assert row["loss"] == pytest.approx(nll / tokens, rel=1e-4)


def test_the_sft_term_adds_the_mean_nll_of_chosen(model: Path, tmp_path: Path) -> None:
    shape = {"rows": 4, "per_device_train_batch_size": 4, "max_steps": 1}
    run(model, tmp_path / "plain", **shape)
    run(model, tmp_path / "mixed", **shape, pref_ftx=0.5)
    chosen = write_rows(tmp_path / "chosen.jsonl", [dict(row) for row in pairs(4)])
    means = []
    for number, line in enumerate(chosen.read_text().splitlines()):
        data = write_rows(tmp_path / f"{number}.jsonl", [json.loads(line)])
        run(model, tmp_path / f"run{number}", stage="sft", dataset=str(data), max_steps=1)
        means.append(metrics(tmp_path / f"run{number}")[0]["loss"])
    (plain,), (mixed,) = metrics(tmp_path / "plain"), metrics(tmp_path / "mixed")
    assert mixed["loss"] - plain["loss"] == pytest.approx(0.5 * sum(means) / 4, rel=1e-4)
