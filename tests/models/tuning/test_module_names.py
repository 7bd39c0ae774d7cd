"""Names that a config gives for modules: unknown ones are refused with those that there are; routers are found."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from palate.errors import ConfigError
from palate.models.tuning import module_names
from palate.models.tuning.module_names import check_module_names, linear_names, lora_notice, router_names
from palate.models.tuning.trainable import add_lora, train_last_layers
from tiny import PACKED, tiny_model

EXPERTS = {**PACKED["qwen2"], "num_local_experts": 4, "num_experts": 4, "head_dim": 8}
LLAMA = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def test_each_unknown_name_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError) as error:
        add_lora(tiny_model("llama"), rank=2, alpha=4, target=["q_proj", "attn_out", "ff_proj"])
    assert str(error.value) == (
        f"lora_target: the model has no module named attn_out, ff_proj; its linear layers are {LLAMA}"
    )


@pytest.mark.parametrize("target", ["q_prj", ["q_prj"], ["proj"], ["layers.0.q_proj"]])
def test_no_name_matches_a_part_of_another(target: object) -> None:
    with pytest.raises(ConfigError, match="no module named"):
        add_lora(tiny_model("llama"), rank=2, alpha=4, target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [["q_proj"], ["self_attn.q_proj"], ["model.layers.0.self_attn.q_proj"]])
def test_ends_of_paths_are_names(target: list[str]) -> None:
    tuned = add_lora(tiny_model("llama"), rank=2, alpha=4, target=target)
    trained = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("q_proj" in name for name in trained)


def test_extra_modules_of_freeze_are_checked_alike() -> None:
    with pytest.raises(ConfigError, match=r"freeze_extra_modules: .* named nrm; its modules are .*norm"):
        train_last_layers(tiny_model("llama"), 1, ["nrm"])


def test_a_long_list_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_names, "_SHOWN", 2)
    with pytest.raises(ConfigError, match=r"its linear layers are down_proj, gate_proj and 5 more$"):
        check_module_names(tiny_model("llama"), "key", ["nothing"], linear=True)


def test_the_head_is_no_linear_layer_to_adapt() -> None:
    assert linear_names(tiny_model("gpt2")) == ["c_attn", "c_fc", "c_proj"]
    assert linear_names(tiny_model("llama")) == LLAMA.split(", ")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("mixtral", {"gate"}),
        ("qwen2_moe", {"gate", "shared_expert_gate"}),
        ("qwen3_moe", {"gate"}),
        ("phimoe", {"router"}),
        ("gpt_oss", {"router"}),
        ("granitemoe", {"router"}),
    ],
)
def test_lora_on_all_layers_leaves_the_router_alone(kind: str, names: set[str]) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **EXPERTS))
    found = router_names(model)
    assert found
    assert all(names & set(path.split(".")) for path in found)
    assert names <= {name for path in found for name in path.split(".")}
    tuned = add_lora(model, rank=2, alpha=4)
    adapted = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert any("q_proj" in name for name in adapted)
    assert not [name for name in adapted if names & set(name.split("."))]


def test_a_model_without_experts_has_no_routers() -> None:
    assert router_names(tiny_model("llama")) == []


def test_a_router_is_named_by_its_module_and_not_by_the_layer_within() -> None:
    sizes = {"kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
    config = AutoConfig.for_model("jetmoe", **{**EXPERTS, **sizes})
    tuned = add_lora(AutoModelForCausalLM.from_config(config), rank=2, alpha=4)
    assert "; the routers (router) and the experts are left" in lora_notice(tuned)
