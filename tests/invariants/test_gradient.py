"""A13 and invariance 11: the gradient is the closed form of the DPO paper; a swapped pair has the mirrored loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from palate.models.probe.probe import probe
from palate.models.scoring.logps import Logps, per_completion
from palate.text.batch import pack
from palate.text.groups import EncodedGroup
from tiny import method_of, random_groups, tiny_model

BETA = 0.3


def method(name: str = "sigmoid", **options: Any) -> Any:
    return method_of("dpo", **{"pref_loss": name, "pref_beta": BETA, **options})


@pytest.fixture(scope="module")
def policy() -> Any:
    model = tiny_model("llama", seed=1)
    assert probe(model).packed
    return model


@pytest.fixture(scope="module")
def reference() -> Any:
    model = tiny_model("llama", seed=2)
    probe(model)
    return model


def scored(model: Any, groups: list[EncodedGroup]) -> Logps:
    batch = pack(groups)
    return per_completion(model(**batch.model_inputs()), batch)


def gradient(model: Any, value: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value, parameters), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_closed_form(policy: Any, reference: Any, seed: int) -> None:
    """∇L = −β σ(−βΔ) [∇log π(y_w|x) − ∇log π(y_l|x)], every parameter, one pair at a time."""
    [pair] = random_groups(1, seed=seed)
    with torch.no_grad():
        fixed = scored(reference, [pair])
    output = method().loss(scored(policy, [pair]), fixed, pack([pair]))
    got = gradient(policy, output.loss[0])

    sums = scored(policy, [pair]).sums
    delta = float((sums - fixed.sums).detach() @ torch.tensor([1.0, -1.0]))
    wanted = gradient(policy, sums[0])
    unwanted = gradient(policy, scored(policy, [pair]).sums[1])
    factor = -BETA / (1 + torch.tensor(BETA * delta).exp().item())
    assert max(float(value.abs().max()) for value in got.values()) > 1e-2
    for name, value in got.items():
        expected = factor * (wanted[name] - unwanted[name])
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_a_pair_that_is_told_apart_well_pulls_less(policy: Any, reference: Any) -> None:
    """The weight σ(−βΔ) of the closed form: the same pair the other way round pulls by the complement."""
    [pair] = random_groups(1, seed=4)
    swapped = EncodedGroup(pair.id, pair.prompt_ids, pair.completions[::-1])
    norms = []
    for one in (pair, swapped):
        with torch.no_grad():
            fixed = scored(reference, [one])
        loss = method().loss(scored(policy, [one]), fixed, pack([one])).loss[0]
        norms.append((loss.item(), torch.cat([g.flatten() for g in gradient(policy, loss).values()]).norm().item()))
    (low, weak), (high, strong) = sorted(norms)
    # L = −log σ(x), so σ(−x) = 1 − e^(−L)
    assert weak / strong == pytest.approx(math.expm1(-low) / math.expm1(-high), rel=1e-3)
    assert weak < strong


MIRRORS: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "sigmoid_norm": {"pref_beta": 5.0},
    "robust": {"dpo_label_smoothing": 0.1},
}


@pytest.mark.parametrize("name", MIRRORS)
def test_swapping_chosen_and_rejected_mirrors(policy: Any, reference: Any, name: str) -> None:
    """Margins change sign, accuracies become their complement, and full smoothing of one order is the other."""
    groups = random_groups(5, seed=6)
    swapped = [EncodedGroup(g.id, g.prompt_ids, g.completions[::-1], g.weight) for g in groups]
    mirrored = method(name, **MIRRORS[name])
    with torch.no_grad():
        one = mirrored.loss(scored(policy, groups), scored(reference, groups), pack(groups))
        other = mirrored.loss(scored(policy, swapped), scored(reference, swapped), pack(swapped))
    margins = one.metrics["rewards/margins"]
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(other.metrics["rewards/margins"], -margins, **close)
    torch.testing.assert_close(other.metrics["rewards/accuracies"], 1 - one.metrics["rewards/accuracies"])
    for metric in ("rewards", "logps", "ref_logps"):
        torch.testing.assert_close(other.metrics[f"{metric}/chosen"], one.metrics[f"{metric}/rejected"], **close)
    # −log σ(x) − (−log σ(−x)) = −x: of all three losses the two orders differ by the margin, up to a known factor.
    factor = 1.0 / (1 - 2 * 0.1) if name == "robust" else 1.0
    torch.testing.assert_close(one.loss - other.loss, -margins * factor, **close)
    assert float(margins.abs().min()) > 1e-3


def test_a_smoothed_pair_is_a_mixture_of_both_orders(policy: Any, reference: Any) -> None:
    groups = random_groups(4, seed=7)
    with torch.no_grad():
        policy_logps, fixed = scored(policy, groups), scored(reference, groups)
        losses = {
            epsilon: method(dpo_label_smoothing=epsilon).loss(policy_logps, fixed, pack(groups))
            for epsilon in (0.0, 0.3)
        }
    plain = losses[0.0]
    mirrored = plain.loss + plain.metrics["rewards/margins"]
    torch.testing.assert_close(losses[0.3].loss, 0.7 * plain.loss + 0.3 * mirrored, atol=1e-5, rtol=1e-5)
