"""Invariances 4 and 7: adapter off = base model; step 0 against the starting policy has margin 0 and a known loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.config.objectives.lookup import OBJECTIVES, resolve_options
from palate.config.run import DpoConfig
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import AdapterOff
from palate.models.tuning import trainable
from palate.text.batch import pack
from palate.training.setup.session import prepare
from runs import config, metrics, run, run_json
from tiny import random_groups, save_tiny, tiny_model

CPU = torch.device("cpu")
# (objective, options) → the loss at margin 0, worked out by hand from NUMERICS' formulas.
LOG2 = 0.6931471805599453
KNOWN: dict[str, tuple[dict[str, Any], float]] = {
    "sigmoid": ({"pref_beta": 0.3}, LOG2),
    "sigmoid smoothed": ({"pref_loss": "sigmoid", "dpo_label_smoothing": 0.2}, LOG2),
    "robust": ({"dpo_label_smoothing": 0.1}, LOG2),
    "hinge": ({}, 1.0),
    "ipo": ({"pref_beta": 0.2}, 6.25),
    "ipo sum": ({"pref_loss": "ipo", "ipo_logps": "sum", "pref_beta": 0.5}, 1.0),
    "sigmoid_norm": ({}, LOG2),
    # ½(log ½ − log 0.9) + ½(log ½ − log 0.1) = −log 2 − ½·log 0.09
    "exo_pair": ({"dpo_label_smoothing": 0.1}, 0.5108256237659907),
    "discopop": ({}, 0.5 + 0.5 * LOG2),
    "dpop": ({}, LOG2),
    "nca_pair": ({}, 2 * LOG2),
    "sppo_hard": ({"pref_beta": 0.5}, 2.0),
    "apo_zero": ({}, 1.0),
    "apo_down": ({}, 1.0),
    "bco_pair": ({}, 2 * LOG2),
    "aot": ({}, LOG2),
    "aot_unpaired": ({}, LOG2),
    "kto_pair": ({"kto_chosen_weight": 1.5, "kto_rejected_weight": 0.7}, 0.55),
    # (1 + 0.5 · 2 log 2) / 1.5
    "hinge with bco": ({"pref_bco_weight": 0.5}, (1.0 + LOG2) / 1.5),
}
# Those on dimensions need rows of their own: tests/training/methods/test_multi.py.
TRAINABLE = [n for n, row in OBJECTIVES.items() if row.family == "paired" and "dimension_weights" not in row.options]
KINDS: dict[str, dict[str, Any]] = {
    "copy": {},
    "copy of the last layer": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "adapter": {"finetuning_type": "lora", "lora_rank": 4},
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_first_loss_is_the_known_one(model: Path, tmp_path: Path, name: str) -> None:
    options, expected = KNOWN[name]
    chosen = {"pref_loss": name.split()[0], **options}
    run(model, tmp_path / "run", **chosen, rows=4, per_device_train_batch_size=4, max_steps=1)
    (first,) = metrics(tmp_path / "run")
    assert first["loss"] == pytest.approx(expected, abs=2e-5)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert first["rewards/accuracies"] == 0.5
    assert run_json(tmp_path / "run")["objective"] == chosen["pref_loss"]


def test_every_trainable_objective_has_its_known_loss_here_or_none() -> None:
    """A new objective of the difference cannot be forgotten above."""
    named = {name.split()[0] for name in KNOWN}
    for name in TRAINABLE:
        known = OBJECTIVES[name].loss_at_start(resolve_options(name, {}))
        assert (name in named) == (known is not None), name


@pytest.mark.parametrize("name", sorted(set(TRAINABLE) - {name.split()[0] for name in KNOWN}))
def test_the_other_objectives_train_from_the_config(model: Path, tmp_path: Path, name: str) -> None:
    """Their first loss depends on the data; two steps of plain gradient descent on it make it smaller."""
    changed = {"pref_loss": name, "rows": 4, "per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-2}
    run(model, tmp_path / "run", **changed, optim="sgd", max_grad_norm=1.0)
    losses = [row["loss"] for row in metrics(tmp_path / "run")]
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_reference_equals_the_starting_policy(model: Path, tmp_path: Path, kind: str) -> None:
    session = prepare(config(model, tmp_path / "run", **KINDS[kind]))
    assert session.reference is not None
    assert session.reference.kind == kind.split()[0]
    batch = session.policy.collate(session.data.train)
    session.policy.model.eval()
    with torch.no_grad():
        policy = session.policy.model(**batch.model_inputs()).logps
    assert torch.equal(session.reference.logps([batch])[0].logps, policy)
    run(model, tmp_path / "run", **KINDS[kind], max_steps=2, per_device_train_batch_size=4)
    first, second = metrics(tmp_path / "run")
    assert (first["rewards/margins"], first["rewards/accuracies"]) == (0.0, 0.5)
    assert first["logps/chosen"] == first["ref_logps/chosen"]
    assert second["rewards/margins"] != 0.0


def test_a_separate_reference_scores_with_its_own_weights(model: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=5, initializer_range=0.2)
    changed = {"max_steps": 1, "per_device_train_batch_size": 8}
    run(model, tmp_path / "run", ref_model=str(other), **changed)
    run(other, tmp_path / "as-policy", **changed)
    (row,), (alone,) = metrics(tmp_path / "run"), metrics(tmp_path / "as-policy")
    assert row["ref_logps/chosen"] == pytest.approx(alone["logps/chosen"], rel=1e-5)
    assert abs(row["rewards/margins"]) > 1e-3
    assert run_json(tmp_path / "run")["reference"]["kind"] == "model"
    assert run_json(tmp_path / "run")["reference"]["identity"] != run_json(tmp_path / "run")["model"]["identity"]


def test_a_copy_of_the_policy_under_another_name_needs_no_second_model(model: Path, tmp_path: Path) -> None:
    same = save_tiny(tmp_path / "same", initializer_range=0.2)
    built = config(model, tmp_path / "run", ref_model=str(same))
    assert isinstance(built, DpoConfig)
    reference = prepare(built).reference
    assert reference is not None
    assert (reference.kind, reference.is_start) == ("copy", True)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
def test_adapter_off_is_the_base_model_whatever_the_adapter_learnt(kind: str) -> None:
    base = tiny_model(kind)
    probe(base)
    batch = pack(random_groups(3, seed=8))
    with torch.no_grad():
        expected = base(**batch.model_inputs()).logps.clone()
    policy: Any = trainable.add_lora(base, rank=4, alpha=8)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
        moved = policy(**batch.model_inputs()).logps
    assert float((moved - expected).abs().max()) > 0.1
    off = AdapterOff(policy, FP32, CPU, "base").logps([batch])[0].logps
    torch.testing.assert_close(off, expected, atol=0.0, rtol=0.0)
    policy.train()
    with torch.no_grad():
        torch.testing.assert_close(policy(**batch.model_inputs()).logps, moved, atol=1e-6, rtol=1e-6)
