"""The load-balancing term: transformers' own for each pair, packed or padded, and its gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from palate.models.attention.tree import TREE
from palate.models.probe.probe import probe
from palate.models.scoring.rewards import end_index
from palate.models.tuning.experts import RouterBalance, router_balance
from palate.text.batch import pack, pad
from tiny import PACKED, random_groups, tiny_model

EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}


def model(kind: str = "mixtral", **changed: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**PACKED["qwen2"], **EXPERTS, **changed})
    return AutoModelForCausalLM.from_config(config).eval()


def test_even_use_by_hand() -> None:
    """Two tokens, two experts, k = 1, probabilities ¾ and ¼ of either first: f = ½, P = ½, so 2 · (¼ + ¼) = 1."""
    [group] = random_groups(1, 1, prompt=(1, 1), answer=(1, 1))
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    assert RouterBalance(1.0, 1).loss([logits], pad([group])).tolist() == pytest.approx([1.0])
    one_sided = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
    # f = (1, 0), P = (¾, ¼)
    assert RouterBalance(1.0, 1).loss([one_sided], pad([group])).tolist() == pytest.approx([1.5])


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "olmoe", "qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("packed", [True, False])
def test_it_is_transformers_own_of_each_pair(kind: str, packed: bool) -> None:
    scored = model(kind)
    found = probe(scored, kernels=(TREE,) if packed else ())
    assert found.packed == packed
    balance, reason = router_balance(scored, 0.02)
    assert balance is not None, reason
    groups = random_groups(3, 2, seed=1)
    batch = (pack if packed else pad)(groups)
    with torch.no_grad():
        terms = balance.loss(scored(**batch.model_inputs(), routers=True).router_logits, batch)
        stock = model(kind)
        expected = [
            stock(
                input_ids=pair.input_ids, attention_mask=pair.attention_mask.long(), output_router_logits=True
            ).aux_loss
            for pair in (pad([group]) for group in groups)
        ]
    torch.testing.assert_close(terms, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_its_gradient_is_the_same_under_activation_checkpointing() -> None:
    def gradient(checkpointing: bool) -> torch.Tensor:
        scored = model()
        probe(scored)
        scored.train()
        if checkpointing:
            scored.gradient_checkpointing_enable({"use_reentrant": False})
        batch = pack(random_groups(2, seed=2))
        balance, _ = router_balance(scored, 1.0)
        assert balance is not None
        balance.loss(scored(**batch.model_inputs(), routers=True).router_logits, batch).sum().backward()
        return scored.model.layers[1].mlp.gate.weight.grad

    torch.testing.assert_close(gradient(False), gradient(True))
    assert float(gradient(False).abs().max()) > 1e-3


def test_a_reward_model_gives_its_routers_too() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mixtral", **PACKED["qwen2"], num_local_experts=4, num_labels=1)
    scored = AutoModelForSequenceClassification.from_config(config)
    probe(scored, head="reward")
    batch = pack(random_groups(2, seed=3))
    balance, reason = router_balance(scored, 0.1)
    assert balance is not None, reason
    output = scored(**batch.model_inputs(), end_index=end_index(batch), routers=True)
    assert balance.loss(output.router_logits, batch).shape == (2,)


def test_it_is_on_where_the_models_config_says_so() -> None:
    def coefficient(given: float | None, **changed: Any) -> float | None:
        scored = model(**changed)
        probe(scored)
        found = router_balance(scored, given)[0]
        return None if found is None else found.coefficient

    assert coefficient(None) is None
    assert coefficient(None, output_router_logits=True, router_aux_loss_coef=0.02) == 0.02
    assert coefficient(0.0, output_router_logits=True) is None
    assert coefficient(0.5) == 0.5


def test_a_model_without_experts_has_none() -> None:
    plain = tiny_model("llama")
    probe(plain)
    assert router_balance(plain, None) == (None, "")
    assert router_balance(plain, 0.1) == (None, "the model has no experts")
