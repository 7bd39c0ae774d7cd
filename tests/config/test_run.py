"""What a config holds, and the combinations that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from palate.config.objectives.lookup import OBJECTIVES, OPTIONS
from palate.config.run import STAGES, DpoConfig, SftConfig
from palate.config.stages.optimisation import Optimiser
from palate.config.stages.preference import ObjectiveFields
from palate.errors import ConfigError

OBJECTIVE_KEYS = ObjectiveFields.objective_keys()


def dpo(**values: Any) -> DpoConfig:
    return DpoConfig(model_name_or_path="model", dataset="pairs.jsonl", output_dir="runs/a", **values)


def test_defaults_are_those_of_the_field() -> None:
    config = dpo()
    assert (config.stage, config.learning_rate, config.num_train_epochs) == ("dpo", 5e-7, 1.0)
    assert (config.max_grad_norm, config.dropout, config.pref_loss) == (1.0, 0.0, "sigmoid")
    assert config.objective_options["pref_beta"] == 0.1
    sft = SftConfig(model_name_or_path="model", dataset="rows.jsonl", output_dir="runs/a")
    assert sft.learning_rate == 1e-5
    assert not set(OBJECTIVE_KEYS) & set(SftConfig.model_fields)


def test_values_that_follow_others_do() -> None:
    assert dpo(lora_rank=16).lora_alpha == 32
    assert dpo(lora_rank=16, lora_alpha=8).lora_alpha == 8
    assert dpo(logging_steps=5).eval_steps == 5
    assert dpo(logging_steps=5, eval_steps=100).eval_steps == 100


def test_what_can_be_written_in_several_ways() -> None:
    config = dpo(lora_target="q_proj, v_proj", freeze_extra_modules="lm_head", report_to="wandb,tensorboard")
    assert config.lora_target == ["q_proj", "v_proj"]
    assert config.freeze_extra_modules == ["lm_head"]
    assert config.report_to == ["wandb", "tensorboard"]
    assert dpo(lora_target=["all"]).lora_target == "all"
    assert dpo(report_to="none").report_to == dpo(report_to=None).report_to == []
    assert dpo(eval_strategy=False, save_strategy=False).save_strategy == "no"
    assert dpo(reference_cache=False, trunk_cache=False).trunk_cache == "off"
    assert dpo(reference_cache="refs.safetensors").reference_cache == "refs.safetensors"
    assert dpo(labels={0: "response_1", True: True, None: None}).labels == {
        "0": "response_1",
        "true": "true",
        "null": "none",
    }
    assert dpo(run_name=2024).run_name == "2024"


def test_datasets_come_in_three_forms() -> None:
    def of(dataset: Any) -> Any:
        return DpoConfig(model_name_or_path="model", dataset=dataset, output_dir="runs/a").dataset

    assert of("a.jsonl") == "a.jsonl"
    assert of("a, b") == "a, b"
    assert of(["a", "b"]) == ["a", "b"]
    assert of({"a": 2, "b": 0.5}) == {"a": 2.0, "b": 0.5}
    for wrong in ({"a": 0}, {"a": -1}, {"a": "much"}, {"a": True}, {}, [], "", 3, [1]):
        with pytest.raises(ValidationError, match="dataset"):
            of(wrong)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"quantization_bit": 4}, "needs finetuning_type: lora"),
        ({"val_size": 0.1, "eval_dataset": "b"}, "keep one of them"),
        ({"val_size": 1.5}, "whole number of rows"),
        ({"eval_strategy": "steps"}, "nothing to evaluate on"),
        ({"load_best_model_at_end": True}, "eval_strategy is no"),
        ({"early_stopping_patience": 2}, "eval_strategy is no"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "val_size": 0.1}, "make them equal"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 30, "save_steps": 100}
            | {"val_size": 0.1},
            "multiple of eval_steps",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 0.2, "save_steps": 100}
            | {"val_size": 0.1},
            "multiple of eval_steps",
        ),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "changes at evaluations, but eval_strategy is no"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "needs exactly one of min_lr and min_lr_rate"),
        ({"max_steps": 0}, "max_steps must be -1"),
        ({"max_tokens_per_batch": 0}, "at least 1"),
        ({"deepspeed": "ds.json", "fsdp": "full_shard"}, "keep one of them"),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        dpo(**values)


def test_a_config_cannot_change_and_takes_no_unknown_key() -> None:
    config = dpo()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        dpo(learnig_rate=1)


def test_the_objective_is_asked() -> None:
    assert dpo(pref_loss="dpo").pref_loss == "sigmoid"
    assert dpo(pref_loss="sigmoid_norm").objective_options["pref_beta"] == 5.0
    with pytest.raises(ConfigError, match="did you mean hinge"):
        dpo(pref_loss="hing")
    with pytest.raises(ConfigError, match=r"dpo_label_smoothing: 0\.1 has no effect on pref_loss: hinge"):
        dpo(pref_loss="hinge", dpo_label_smoothing=0.1)


def test_every_option_of_an_objective_of_this_stage_is_a_key() -> None:
    used = {key for row in OBJECTIVES.values() if row.family in ("paired", "ranked") for key in row.all_options}
    assert used <= set(OBJECTIVE_KEYS) <= set(OPTIONS)


def test_rows_of_another_kind_are_another_stage() -> None:
    elsewhere = [name for name, row in OBJECTIVES.items() if row.family not in ("paired", "ranked")]
    for name in elsewhere:
        with pytest.raises(ConfigError, match=f"pref_loss: {name} learns from"):
            dpo(pref_loss=name)


def test_the_resolved_config_is_plain_and_loads_again() -> None:
    config = dpo(pref_loss="ipo", lora_rank=4, dataset_dir="data")
    resolved = config.resolved()
    assert resolved["pref_beta"] == 0.1
    assert resolved["ipo_logps"] == "mean"
    assert "simpo_gamma" not in resolved
    again = DpoConfig(**resolved)
    assert again.resolved() == resolved
    assert again.objective_options == config.objective_options


def test_every_key_says_what_it_means() -> None:
    for config_class in STAGES.values():
        for key, field in config_class.model_fields.items():
            assert field.description, f"{config_class.__name__}.{key} has no description"


def test_a_judge_is_given_answers_to_compare() -> None:
    given = {"model_name_or_path": "m", "dataset": "p.jsonl", "output_dir": "runs/a", "rewards": [{"judge": "gentle"}]}
    with pytest.raises(ValidationError, match="judge gentle compares the answers to a prompt, and there is one"):
        STAGES["ppo"](**given)
    assert STAGES["ppo"](**given, num_generations=2).num_generations == 2  # type: ignore[attr-defined]
    assert STAGES["ppo"](**{**given, "rewards": "gentle:score"}).num_generations == 1  # type: ignore[attr-defined]
    assert STAGES["grpo"](**given).num_generations == 8  # type: ignore[attr-defined]


def test_names_of_optimisers_are_those_of_transformers() -> None:
    pytest.importorskip("torch")  # what transformers knows of training
    from transformers.training_args import OptimizerNames

    assert set(get_args(Optimiser)) <= {item.value for item in OptimizerNames}


def test_config_imports_no_torch() -> None:
    code = (
        "import sys, palate.config.load, palate.config.docs, palate.config.objectives.lookup\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
