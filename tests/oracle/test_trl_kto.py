"""Invariance 12 for unpaired losses: KTO and APO-zero equal TRL's KTOTrainer on identical token ids, in float32.

Runs where TRL 1.16 is installed (`make oracle`). What is computed of a batch agrees: losses, gradients, the KL estimate
and its clamp, rewards. Which rows form that batch differs on purpose, and a test states both sides: TRL pairs answers
within each micro-batch, takes a KL of each, and gives the only row of a last batch its own answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.config.objectives.lookup import OBJECTIVES
from palate.models.probe.probe import probe
from palate.models.scoring.logps import per_completion
from palate.text.batch import pack
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.methods.base import LossOutput
from palate.training.methods.mismatch import mismatched
from tiny import method_of, random_groups, tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl", reason="TRL is not installed here; make oracle runs this")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.filterwarnings("ignore")

# TRL 1.16 has no unpaired BCO.
PEERLESS = {"bco"}
WEIGHTS = {"kto_chosen_weight": 1.3, "kto_rejected_weight": 0.6}
THEIRS = {"desirable_weight": 1.3, "undesirable_weight": 0.6}
Gradients = dict[str, torch.Tensor]


def rows() -> list[EncodedGroup]:
    """Six labelled answers of different lengths; TRL trains every token of one, so these do too."""
    return [
        replace(
            group,
            labels=(float(place % 3 > 0),),
            completions=(EncodedCompletion(group.completions[0].ids, np.ones(len(group.completions[0].ids), bool)),),
        )
        for place, group in enumerate(random_groups(6, 1, seed=3))
    ]


def rotated(groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
    """TRL's mismatch within a batch: (x₁, yₙ), (x₂, y₁), …, (xₙ, yₙ₋₁)."""
    return [
        replace(group, completions=(group.completions[0], groups[place - 1].completions[0]))
        for place, group in enumerate(groups)
    ]


class Oracle:
    """TRL's trainer around a tiny policy and a different tiny reference."""

    def __init__(self, folder: Path, *, seeds: tuple[int, int] = (1, 2), rows: int = 2, **arguments: Any) -> None:
        data = [{"prompt": f"{i} a", "completion": f"{i} b", "label": bool(i % 2)} for i in range(rows)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trainer = trl.KTOTrainer(
                model=tiny_model("llama", seed=seeds[0]),
                ref_model=tiny_model("llama", seed=seeds[1]),
                args=trl.KTOConfig(
                    output_dir=str(folder),
                    use_cpu=True,
                    bf16=False,
                    report_to="none",
                    disable_dropout=True,
                    per_device_train_batch_size=2,
                    **arguments,
                ),
                train_dataset=datasets.Dataset.from_list(data),
                processing_class=tiny_tokenizer(),
            )

    def loss(self, groups: Sequence[EncodedGroup]) -> tuple[float, Gradients]:
        examples = [
            {
                "prompt_ids": group.prompt_ids.tolist(),
                "completion_ids": group.completions[0].ids.tolist(),
                "label": group.labels[0] > 0,
                **({"KL_completion_ids": group.completions[1].ids.tolist()} if len(group.completions) > 1 else {}),
            }
            for group in groups
        ]
        model = self.trainer.model
        model.zero_grad()
        loss = self.trainer.compute_loss(model, self.trainer.data_collator(examples))
        loss.backward()
        return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters()}

    def metric(self, name: str) -> float:
        return float(self.trainer._metrics["eval"][name][-1])


def ours(
    name: str, groups: Sequence[EncodedGroup], *, seeds: tuple[int, int] = (1, 2), **options: Any
) -> tuple[LossOutput, Gradients]:
    policy, reference = (tiny_model("llama", seed=seed) for seed in seeds)
    assert probe(policy).packed
    probe(reference)
    batch = pack(list(groups))
    with torch.no_grad():
        fixed = per_completion(reference(**batch.model_inputs()), batch)
    method = method_of("kto", pref_loss=name, **options)
    output = method.loss(per_completion(policy(**batch.model_inputs()), batch), fixed, batch)
    output.loss.mean().backward()
    return output, {n: p.grad.clone() for n, p in policy.named_parameters()}


def assert_same(got: Gradients, expected: Gradients) -> None:
    largest = max(float(value.abs().max()) for value in expected.values())
    assert largest > 1e-5
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=1e-4 * largest, rtol=1e-3, msg=name)


@pytest.mark.parametrize("beta", [0.05, 0.4])
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_kto_agrees(tmp_path: Path, beta: float, seeds: tuple[int, int]) -> None:
    """With the models swapped the mismatched log-ratios change their sign, and the clamp at 0 is met on both sides."""
    groups = rotated(rows())
    oracle = Oracle(tmp_path, seeds=seeds, loss_type="kto", beta=beta, **THEIRS)
    expected, theirs = oracle.loss(groups)
    output, gradients = ours("kto", groups, seeds=seeds, pref_beta=beta, **WEIGHTS)
    assert float(output.loss.mean()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert_same(gradients, theirs)
    kl = float(output.metrics["kl"][0])
    assert kl == pytest.approx(oracle.metric("kl"), rel=1e-5, abs=1e-5)
    for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert float(output.metrics[name].nanmean()) == pytest.approx(oracle.metric(name), rel=1e-5, abs=1e-5), name


def test_the_clamp_was_met() -> None:
    """What the test above relies on: one order of the two models has a KL above 0, the other is clamped."""
    found = sorted(float(ours("kto", rotated(rows()), seeds=seeds)[0].metrics["kl"][0]) for seeds in ((1, 2), (2, 1)))
    assert found[0] == 0.0
    assert found[1] > 0.1


def test_the_kl_is_that_of_whatever_is_paired(tmp_path: Path) -> None:
    """Given palate's own mismatched answers TRL gets palate's loss."""
    groups = mismatched(rows(), seed=5)
    expected, theirs = Oracle(tmp_path, loss_type="kto", beta=0.2).loss(groups)
    output, gradients = ours("kto", groups, pref_beta=0.2)
    assert float(output.loss.mean()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert_same(gradients, theirs)


def test_apo_zero_agrees_row_by_row(tmp_path: Path) -> None:
    groups = rows()
    oracle = Oracle(tmp_path, loss_type="apo_zero_unpaired", beta=0.3, **THEIRS)
    output, gradients = ours("apo_zero_unpaired", groups, pref_beta=0.3, **WEIGHTS)
    for group, value in zip(groups, output.loss.tolist(), strict=True):
        assert value == pytest.approx(oracle.loss([group])[0], rel=1e-5, abs=1e-5), group.id
    expected, theirs = oracle.loss(groups)
    assert float(output.loss.mean()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert_same(gradients, theirs)


def test_a_step_has_one_kl_here_and_one_for_each_micro_batch_there(tmp_path: Path) -> None:
    """So TRL's loss depends on how a step is split; here it does not (tests/training/test_coupled.py)."""
    groups = rotated(rows())
    oracle = Oracle(tmp_path, loss_type="kto", beta=0.4)
    halves = [oracle.loss(half)[0] for half in (groups[:3], groups[3:])]
    apart = [float(ours("kto", half, pref_beta=0.4)[0].loss.mean()) for half in (groups[:3], groups[3:])]
    assert halves == pytest.approx(apart, rel=1e-5)  # of each half alone both say the same
    whole = float(ours("kto", groups, pref_beta=0.4)[0].loss.mean())
    assert whole == pytest.approx(oracle.loss(groups)[0], rel=1e-5)
    assert abs(sum(halves) / 2 - whole) > 1e-4


def test_the_last_row_meets_itself_there_and_never_here(tmp_path: Path) -> None:
    """Three rows in batches of two: what TRL calls the KL of the third is its own reward."""
    data = Oracle(tmp_path, rows=3, loss_type="kto").trainer.train_dataset
    assert data[2]["KL_completion_ids"] == data[2]["completion_ids"]
    paired = mismatched(rows()[:3], seed=0)
    assert all(group.completions[1] is not group.completions[0] for group in paired)


def test_every_unpaired_loss_of_both_is_compared() -> None:
    assert {name for name, row in OBJECTIVES.items() if row.family == "unpaired"} == {
        "kto",
        "apo_zero_unpaired",
    } | PEERLESS
