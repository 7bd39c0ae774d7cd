"""Invariance 12: losses and gradients equal TRL's DPOTrainer on identical token ids, in float32.

Runs where TRL 1.16 is installed (`make oracle` makes such an environment and runs this), and skips elsewhere.

Where the two differ on purpose, a test states both sides: TRL's `sigmoid` ignores label smoothing, its SFT term is a
mean over the tokens of a micro-batch and not over examples.
"""

from __future__ import annotations

import warnings
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
from tiny import method_of, random_groups, tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl", reason="TRL is not installed here; make oracle runs this")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.filterwarnings("ignore")

# palate's options and TRL's arguments for the same loss.
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ({"pref_beta": 0.1}, {"beta": 0.1}),
    "sigmoid, larger beta": ({"pref_beta": 0.5}, {"beta": 0.5}),
    "hinge": ({"pref_beta": 0.3}, {"beta": 0.3}),
    "ipo": ({"pref_beta": 0.2}, {"beta": 0.2}),
    "robust": ({"pref_beta": 0.2, "dpo_label_smoothing": 0.1}, {"beta": 0.2, "label_smoothing": 0.1}),
    "sigmoid_norm": ({"pref_beta": 5.0}, {"beta": 5.0}),
    "exo_pair": ({"pref_beta": 0.1, "dpo_label_smoothing": 0.05}, {"beta": 0.1, "label_smoothing": 0.05}),
    "nca_pair": ({"pref_beta": 0.1}, {"beta": 0.1}),
    "sppo_hard": ({"pref_beta": 0.1}, {"beta": 0.1}),
    "apo_zero": ({"pref_beta": 0.1}, {"beta": 0.1}),
    "apo_down": ({"pref_beta": 0.1}, {"beta": 0.1}),
    "discopop": ({"pref_beta": 0.1, "discopop_tau": 0.1}, {"beta": 0.1, "discopop_tau": 0.1}),
    "sigmoid, forward KL": ({"f_divergence_type": "forward_kl"}, {"f_divergence_type": "forward_kl"}),
    "sigmoid, JS": ({"f_divergence_type": "js"}, {"f_divergence_type": "js_divergence"}),
    "sigmoid, alpha": (
        {"f_divergence_type": "alpha", "f_alpha_divergence_coef": 0.4},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.4},
    ),
    "sigmoid, WPO": ({"use_weighting": True}, {"use_weighting": True}),
    "aot": ({"pref_beta": 0.2, "dpo_label_smoothing": 0.1}, {"beta": 0.2, "label_smoothing": 0.1}),
    "aot_unpaired": ({"pref_beta": 0.2}, {"beta": 0.2}),
    "sigmoid, LD": ({"ld_alpha": 0.3}, {"ld_alpha": 0.3}),
    "hinge, LD": ({"ld_alpha": 0.7}, {"ld_alpha": 0.7}),
}
# Not among the losses of TRL's DPO trainer. Its CPO and ORPO trainers' are met in tests/objectives/test_against_trl.py,
# and its bco_pair has δ = 0, see below.
PEERLESS = {"dpop", "r_dpo", "simpo", "orpo", "cpo", "kto_pair", "bco_pair"}

Gradients = dict[str, torch.Tensor]


def groups() -> list[EncodedGroup]:
    """TRL trains every token of a completion, so these do too."""
    found = random_groups(5, seed=3)
    return [
        EncodedGroup(
            group.id,
            group.prompt_ids,
            tuple(EncodedCompletion(one.ids, np.ones(len(one.ids), dtype=bool)) for one in group.completions),
        )
        for group in found
    ]


class Oracle:
    """TRL's trainer around a tiny policy and a different tiny reference."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        rows = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trainer = trl.DPOTrainer(
                model=tiny_model("llama", seed=1),
                ref_model=tiny_model("llama", seed=2),
                args=trl.DPOConfig(
                    output_dir=str(folder),
                    use_cpu=True,
                    bf16=False,
                    report_to="none",
                    disable_dropout=True,
                    **arguments,
                ),
                train_dataset=rows,
                processing_class=tiny_tokenizer(),
            )

    def loss(self, rows: list[EncodedGroup]) -> tuple[float, Gradients]:
        examples = [
            {
                "prompt_ids": row.prompt_ids.tolist(),
                "chosen_ids": row.completions[0].ids.tolist(),
                "rejected_ids": row.completions[1].ids.tolist(),
            }
            for row in rows
        ]
        model = self.trainer.model
        model.zero_grad()
        loss = self.trainer.compute_loss(model, self.trainer.data_collator(examples))
        loss.backward()
        return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters()}

    def metric(self, name: str) -> float:
        return float(self.trainer._metrics["eval"][name][-1])


def ours(name: str, options: dict[str, Any], rows: list[EncodedGroup]) -> tuple[LossOutput, Gradients]:
    policy, reference = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    assert probe(policy).packed
    probe(reference)
    batch = pack(rows)
    with torch.no_grad():
        fixed = per_completion(reference(**batch.model_inputs()), batch)
    method = method_of("dpo", pref_loss=name, **options)
    scored = per_completion(policy(**batch.model_inputs(), **method.traits.inputs(batch)), batch)
    output = method.loss(scored, fixed, batch)
    output.loss.mean().backward()
    return output, {n: p.grad.clone() for n, p in policy.named_parameters()}


@pytest.mark.parametrize("case", SAME)
def test_losses_and_gradients_agree(case: str, tmp_path: Path) -> None:
    name = case.split(",")[0]
    options, arguments = SAME[case]
    oracle = Oracle(tmp_path, loss_type=[name], **arguments)
    rows = groups()
    output, gradients = ours(name, options, rows)
    if not OBJECTIVES[name].couples_batch:  # one that does has another loss for a pair alone
        for row, value in zip(rows, output.loss.tolist(), strict=True):
            expected, _ = oracle.loss([row])
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-5), row.id
    expected, theirs = oracle.loss(rows)
    assert float(output.loss.mean()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert largest > 1e-5
    for parameter, gradient in theirs.items():
        torch.testing.assert_close(gradients[parameter], gradient, atol=1e-4 * largest, rtol=1e-3)


def test_every_loss_of_both_is_compared() -> None:
    trained = {n for n, row in OBJECTIVES.items() if row.family == "paired" and "dimension_weights" not in row.options}
    assert {case.split(",")[0] for case in SAME} == trained - PEERLESS


def test_rewards_and_log_probabilities_agree(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path, loss_type=["sigmoid"], beta=0.1)
    rows = groups()
    output, _ = ours("sigmoid", {"pref_beta": 0.1}, rows)
    oracle.loss(rows)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert float(output.metrics[name].mean()) == pytest.approx(oracle.metric(name), rel=1e-5, abs=1e-5), name


def test_trl_ignores_label_smoothing_for_sigmoid(tmp_path: Path) -> None:
    """Conservative DPO is an option here, as in LLaMA-Factory and OpenRLHF; TRL accepts the number and drops it."""
    rows = groups()
    theirs, _ = Oracle(tmp_path, loss_type=["sigmoid"], beta=0.3, label_smoothing=0.2).loss(rows)
    plain, _ = ours("sigmoid", {"pref_beta": 0.3}, rows)
    smoothed, _ = ours("sigmoid", {"pref_beta": 0.3, "dpo_label_smoothing": 0.2}, rows)
    assert theirs == pytest.approx(float(plain.loss.mean()), rel=1e-5)
    assert abs(theirs - float(smoothed.loss.mean())) > 1e-2


def test_bco_has_its_reward_shift_here_and_none_there(tmp_path: Path) -> None:
    rows = groups()
    theirs, _ = Oracle(tmp_path, loss_type=["bco_pair"], beta=0.1).loss(rows)
    output, _ = ours("bco_pair", {"pref_beta": 0.1}, rows)
    chosen, rejected = output.metrics["rewards/chosen"], output.metrics["rewards/rejected"]
    shift = torch.cat([chosen, rejected]).mean()
    softplus = torch.nn.functional.softplus
    assert theirs == pytest.approx(float((softplus(-chosen) + softplus(rejected)).mean()), rel=1e-5)
    expected = float((softplus(shift - chosen) + softplus(rejected - shift)).mean())
    assert float(output.loss.mean()) == pytest.approx(expected, rel=1e-5)
    assert abs(theirs - expected) > 1e-4


def test_the_sft_term_is_a_mean_over_examples_here_and_over_tokens_there(tmp_path: Path) -> None:
    rows = groups()
    oracle = Oracle(tmp_path, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.4], beta=0.1)
    output, _ = ours("sigmoid", {"pref_beta": 0.1, "pref_ftx": 0.4}, rows)
    single = [oracle.loss([row])[0] for row in rows]
    # With one example both are the same number; over several, TRL's longer answers count more.
    assert output.loss.tolist() == pytest.approx(single, rel=1e-5)
    assert abs(oracle.loss(rows)[0] - float(output.loss.mean())) > 1e-4
