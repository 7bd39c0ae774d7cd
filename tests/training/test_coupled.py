"""A coupled step: its passes together have the gradient of the loss over all groups at once, computed directly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.probe.probe import probe
from palate.models.scoring.logps import Logps, TokenLogps, per_completion
from palate.text.batch import Batch, micro_batches, pack
from palate.text.groups import EncodedGroup
from palate.training.coupled import CoupledBatch, CoupledLoss
from palate.training.methods.base import Method
from runs import distance, metrics, run, weights
from tiny import method_of, random_groups, tiny_model

CPU = torch.device("cpu")
Gradients = dict[str, torch.Tensor]


class Fixed:
    """A reference: another tiny model."""

    kind, identity, is_start = "model", "other", False

    def __init__(self, model: Any) -> None:
        self.model = model

    def logps(self, batches: list[Batch]) -> list[TokenLogps]:
        with torch.no_grad():
            return [self.model(**batch.model_inputs()) for batch in batches]


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    policy, reference = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    for model in (policy, reference):
        assert probe(model).packed
    return policy, reference


def pairs(count: int = 7) -> list[EncodedGroup]:
    return random_groups(count, seed=5)


def labelled(count: int = 7) -> list[EncodedGroup]:
    groups = [replace(g, labels=(float(i % 3 > 0),)) for i, g in enumerate(random_groups(count, 1, seed=6))]
    arranged: list[EncodedGroup] = method_of("kto").arrange(groups, seed=3).groups
    return arranged


def paired(name: str, **options: Any) -> Any:
    return method_of("dpo", pref_loss=name, pref_beta=0.3, **options)


def unpaired(name: str) -> Any:
    return method_of("kto", pref_loss=name, pref_beta=0.3, kto_rejected_weight=1.7)


CASES: dict[str, Any] = {
    "aot": (lambda: paired("aot", dpo_label_smoothing=0.1), pairs),
    "aot discounted": (lambda: paired("aot", ld_alpha=0.4), pairs),
    "aot_unpaired": (lambda: paired("aot_unpaired"), pairs),
    "bco_pair": (lambda: paired("bco_pair", pref_ftx=0.2), pairs),
    "kto_pair": (lambda: paired("kto_pair", kto_chosen_weight=1.5), pairs),
    "sigmoid with bco": (lambda: paired("sigmoid", pref_bco_weight=0.5, use_weighting=True), pairs),
    "kto": (lambda: unpaired("kto"), labelled),
    "bco": (lambda: unpaired("bco"), labelled),
}


def coupled(method: Method[Logps], models: tuple[Any, Any], budget: int) -> CoupledLoss:
    def forward(model: Any, batch: Batch) -> TokenLogps:
        scored: TokenLogps = model(**batch.model_inputs(), **method.traits.inputs(batch))
        return scored

    def split(groups: Any) -> list[Batch]:
        return micro_batches(groups, budget, pack, packed=True)

    return CoupledLoss(method, forward, Fixed(models[1]), split, CPU)  # type: ignore[arg-type]


def backed(model: Any, batches: list[CoupledBatch]) -> Gradients:
    """The gradient that the trainer would end up with."""
    model.zero_grad()
    for batch in batches:
        for one in batch.passes:
            (model(**one.batch.model_inputs()).logps * one.gradient).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def directly(method: Method[Logps], models: tuple[Any, Any], groups: list[EncodedGroup]) -> tuple[float, Gradients]:
    """One graph over all groups at once."""
    policy, reference = models
    policy.zero_grad()
    batch = pack(groups)
    with torch.no_grad():
        fixed = per_completion(reference(**batch.model_inputs()), batch)
    logps = per_completion(policy(**batch.model_inputs(), **method.traits.inputs(batch)), batch)
    w = torch.tensor([method.traits.weight(group) for group in groups])
    loss = (method.loss(logps, fixed, batch, training=True).loss * w).sum() / w.sum()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def assert_same(got: Gradients, expected: Gradients) -> None:
    largest = max(float(value.abs().max()) for value in expected.values())
    assert largest > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=2e-5 * max(largest, 1.0), rtol=1e-4, msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("lists", "budget"), [(1, 10_000), (3, 10_000), (2, 40), (7, 1)])
def test_the_passes_have_the_gradient_of_the_whole(models: Any, case: str, lists: int, budget: int) -> None:
    build, rows = CASES[case]
    groups = [replace(group, weight=1.0 + 0.5 * (i % 2)) for i, group in enumerate(rows())]
    expected_loss, expected = directly(build(), models, groups)
    size = -(-len(groups) // lists)
    parts = [groups[start : start + size] for start in range(0, len(groups), size)]
    batches = coupled(build(), models, budget).step(models[0], parts)
    assert [sorted(g.id for g in batch.groups) for batch in batches] == [sorted(g.id for g in part) for part in parts]
    total = sum(float((batch.output.loss * batch.weights).sum()) for batch in batches)
    assert total / sum(group.weight for group in groups) == pytest.approx(expected_loss, rel=1e-5)
    assert_same(backed(models[0], batches), expected)


@pytest.mark.parametrize("case", ["aot", "bco_pair", "kto"])
def test_a_repeated_row_takes_no_part(models: Any, case: str) -> None:
    build, rows = CASES[case]
    groups = rows()
    expected_loss, expected = directly(build(), models, groups)
    filler = [replace(group, weight=0.0) for group in groups[:3]]
    batches = coupled(build(), models, 60).step(models[0], [groups[:4], [*groups[4:], filler[0]], filler[1:]])
    losses = torch.cat([batch.output.loss for batch in batches])
    counted = torch.cat([batch.weights for batch in batches]) > 0
    assert losses[counted].mean().item() == pytest.approx(expected_loss, rel=1e-5)
    assert losses[~counted].tolist() == [0.0, 0.0, 0.0]
    margins = torch.cat([batch.output.metrics["rewards/accuracies"] for batch in batches])
    assert margins.isnan().tolist() == (~counted).tolist()
    assert all(batch.passes for batch in batches)  # every rank has something to back
    assert_same(backed(models[0], batches), expected)


def test_mismatched_completions_are_not_computed_with_gradient(models: Any) -> None:
    groups = labelled()
    batches = coupled(unpaired("kto"), models, 10_000).step(models[0], [groups])
    assert all(len(group.completions) == 2 for group in groups)
    trained = [group for one in batches[0].passes for group in one.batch.groups]
    assert sorted(group.id for group in trained) == sorted(group.id for group in groups)
    assert all(len(group.completions) == 1 for group in trained)
    own = {group.id: group.completions[0] for group in groups}
    assert all(group.completions[0] is own[group.id] for group in trained)


def test_dropout_falls_on_the_same_places_in_both_passes() -> None:
    policy, reference = tiny_model("gpt2", seed=1), tiny_model("gpt2", seed=2)
    for model in (policy, reference):
        assert probe(model).packed
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    policy.train()
    torch.manual_seed(4)
    batches = coupled(paired("aot"), (policy, reference), 60).step(policy, [pairs()[:4], pairs()[4:]])
    again = []
    for batch in batches:
        for one in batch.passes:
            again.append((one, policy(**one.batch.model_inputs()).logps.detach()))
    # logps/chosen was logged in the first pass; the second pass must give the same.
    for batch in batches:
        for one in batch.passes:
            sums = per_completion(TokenLogps(next(v for o, v in again if o is one)), one.batch).sums
            logged = dict(zip((g.id for g in batch.groups), batch.output.metrics["logps/chosen"].tolist()))
            for number, group in enumerate(one.batch.groups):
                assert sums[2 * number].item() == pytest.approx(logged[group.id], rel=1e-5)
    other = policy(**batches[0].passes[0].batch.model_inputs()).logps
    assert not torch.equal(other, again[0][1])  # there is dropout


def test_evaluation_takes_the_loss_over_all_groups_and_learns_nothing(models: Any) -> None:
    method = paired("bco_pair")
    groups = pairs()
    output, weights = coupled(method, models, 50).evaluate(models[0], groups)
    assert method.state == {}
    expected, _ = directly(paired("bco_pair"), models, groups)
    assert float((output.loss * weights).sum() / weights.sum()) == pytest.approx(expected, rel=1e-5)


KINDS: dict[str, dict[str, Any]] = {
    "aot": {"pref_loss": "aot"},
    "sigmoid with bco": {"pref_bco_weight": 0.5},
    "kto": {"stage": "kto", "kto_rejected_weight": 1.5},
    "bco": {"stage": "kto", "pref_loss": "bco"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_how_a_step_is_split_changes_nothing(model: Path, tmp_path: Path, kind: str) -> None:
    """Invariance 2, through the config: one pass, and accumulation with passes of a few tokens."""
    shape = {"rows": 10, "num_train_epochs": 2, **KINDS[kind]}
    run(model, tmp_path / "whole", **shape, per_device_train_batch_size=4)
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_tokens_per_batch": 30}
    run(model, tmp_path / "split", **shape, **split)
    whole, got = metrics(tmp_path / "whole"), metrics(tmp_path / "split")
    assert len(whole) == len(got) > 4
    for one, other in zip(whole, got, strict=True):
        assert one.keys() == other.keys()
        for name in sorted(set(one) - {"rewards/accuracies", "split", "epoch"}):
            assert other[name] == pytest.approx(one[name], rel=2e-3, abs=2e-4), (one["step"], name)
    moved = distance(model, tmp_path / "whole")
    assert moved > 0.02
    assert distance(tmp_path / "whole", tmp_path / "split") < moved / 100


@pytest.mark.parametrize("kind", ["sigmoid with bco", "bco"])
def test_the_running_mean_survives_a_resume(model: Path, tmp_path: Path, kind: str) -> None:
    shape = {"rows": 8, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3, **KINDS[kind]}
    run(model, tmp_path / "whole", **shape, num_train_epochs=3, max_steps=6)
    named = str(tmp_path / "whole" / "checkpoint-3")
    run(model, tmp_path / "again", **shape, num_train_epochs=3, max_steps=6, resume_from_checkpoint=named)
    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert all(torch.equal(expected[name], value) for name, value in got.items())
    assert metrics(tmp_path / "again") == metrics(tmp_path / "whole")[3:]
