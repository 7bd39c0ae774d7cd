"""The key sets of LLaMA-Factory's own examples: those of stages that palate has plan, the others say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from runs import config_file

MODEL = {"model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "trust_remote_code": True}
DATA = {
    "template": "llama3",
    "cutoff_len": 2048,
    "max_samples": 1000,
    "overwrite_cache": True,
    "preprocessing_num_workers": 16,
    "dataloader_num_workers": 4,
}
OUTPUT = {
    "logging_steps": 10,
    "save_steps": 500,
    "plot_loss": True,
    "overwrite_output_dir": True,
    "save_only_model": False,
    "report_to": "none",
}
TRAIN = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1.0e-4,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "ddp_timeout": 180000000,
    "resume_from_checkpoint": None,
}
EVAL = {"val_size": 0.1, "per_device_eval_batch_size": 1, "eval_strategy": "steps", "eval_steps": 500}
LORA = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
FULL = {"finetuning_type": "full"}


def example(name: str, stage: str, dataset: str, method: dict[str, Any], **own: Any) -> tuple[str, dict[str, Any]]:
    output = {"output_dir": f"saves/llama3-8b/{name}", **OUTPUT}
    return name, {
        **MODEL,
        "stage": stage,
        "do_train": True,
        **method,
        "dataset": dataset,
        **DATA,
        **output,
        **TRAIN,
        **own,
    }


TEXT = dict(
    [
        example("lora/sft", "sft", "identity,alpaca_en_demo", LORA),
        example("lora/sft eval", "sft", "identity,alpaca_en_demo", LORA, **EVAL),
        example("lora/dpo", "dpo", "dpo_en_demo", LORA, pref_beta=0.1, pref_loss="sigmoid", learning_rate=5.0e-6),
        example("lora/orpo", "dpo", "dpo_en_demo", LORA, pref_beta=0.1, pref_loss="orpo", learning_rate=5.0e-6),
        example("lora/simpo", "dpo", "dpo_en_demo", LORA, pref_beta=0.1, pref_loss="simpo", simpo_gamma=0.5),
        example("lora/kto", "kto", "kto_en_demo", LORA, pref_beta=0.1, learning_rate=5.0e-6),
        example("lora/reward", "rm", "dpo_en_demo", LORA, **EVAL),
        example(
            "lora/ppo", "ppo", "identity,alpaca_en_demo", LORA, reward_model="saves/llama3-8b/lora/reward",
            max_new_tokens=512, top_k=0, top_p=0.9,
        ),
        example("lora/sft ds3", "sft", "identity", LORA, deepspeed="examples/deepspeed/ds_z3_config.json"),
        example(
            "lora/sft ray", "sft", "identity", LORA, dataset_dir="REMOTE:llamafactory/demo_data",
            ray_run_name="llama3_8b_sft_lora", ray_storage_path="./saves", ray_num_workers=4,
            placement_strategy="PACK", resources_per_worker={"GPU": 1},
        ),
        example("lora/preprocess", "sft", "identity", LORA, tokenized_path="saves/llama3-8b/dataset/sft"),
        example(
            "lora/qwen2vl", "sft", "mllm_demo,identity", LORA, image_max_pixels=262144, video_max_pixels=16384,
            template="qwen2_vl",
        ),
        example(
            "lora/qwen2vl dpo", "dpo", "rlhf_v", LORA, image_max_pixels=262144, pref_beta=0.1, pref_loss="sigmoid",
            template="qwen2_vl",
        ),
        example("full/sft", "sft", "identity", FULL, deepspeed="examples/deepspeed/ds_z3_config.json"),
        example(
            "full/qwen2vl", "sft", "mllm_demo", FULL, freeze_vision_tower=True, freeze_multi_modal_projector=True,
            freeze_language_model=False, image_max_pixels=262144, deepspeed="examples/deepspeed/ds_z3_config.json",
        ),
        example("qlora/bnb npu", "sft", "identity", LORA, quantization_bit=4, quantization_method="bnb",
                double_quantization=False),
        example("qlora/otfq", "sft", "identity", LORA, quantization_bit=4, quantization_method="bnb"),
        example("qlora/awq", "sft", "identity", LORA),
        example(
            "extras/galore", "sft", "identity", FULL, use_galore=True, galore_layerwise=False,
            galore_target="mlp,self_attn", galore_rank=128, galore_scale=2.0, pure_bf16=True,
        ),
        example(
            "extras/apollo", "sft", "identity", FULL, use_apollo=True, apollo_layerwise=False, apollo_target="all",
            apollo_rank=128, apollo_scale=32.0, apollo_scale_type="channel", pure_bf16=True,
        ),
        example("extras/fsdp qlora", "sft", "identity", LORA, quantization_bit=4),
        example("extras/nlg eval sft", "sft", "identity", LORA, predict_with_generate=True),
        example("extras/llama_pro off", "sft", "identity", {"finetuning_type": "freeze", "freeze_trainable_layers": 8,
                "freeze_trainable_modules": "all", "use_llama_pro": False}),
        example("extras/freeze", "sft", "identity", {"finetuning_type": "freeze", "freeze_trainable_layers": 8,
                "freeze_extra_modules": "embed_tokens,norm"}),
    ]
)  # fmt: skip

NOT_HERE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "extras/badam": ({"use_badam": True, "badam_mode": "layer", "badam_switch_mode": "ascending"}, ("use_badam",)),
    "extras/adam_mini": ({"use_adam_mini": True}, ("use_adam_mini",)),
    "extras/muon": ({"use_muon": True}, ("use_muon",)),
    "extras/loraplus": ({"loraplus_lr_ratio": 16.0}, ("loraplus_lr_ratio",)),
    "extras/pissa": ({"pissa_init": True, "pissa_iter": 16, "pissa_convert": True}, ("pissa_init",)),
    "extras/mod": ({"mixture_of_depths": "convert"}, ("mixture_of_depths",)),
    "extras/llama_pro": ({"use_llama_pro": True}, ("use_llama_pro",)),
    "extras/fp8": ({"fp8": True, "fp8_backend": "torchao", "fp8_enable_fsdp_float8_all_gather": False}, ("fp8",)),
    "extras/dft": ({"use_dft_loss": True}, ("use_dft_loss",)),
    "extras/oft": ({"finetuning_type": "oft"}, ("finetuning_type",)),
    "qlora/hqq": ({"quantization_method": "hqq"}, ("quantization_method",)),
}

OTHER_COMMANDS: dict[str, tuple[dict[str, Any], str]] = {
    "inference": ({**MODEL, "template": "llama3", "infer_backend": "huggingface"}, "infer_backend"),
    "inference vllm": ({**MODEL, "template": "llama3", "infer_backend": "vllm", "vllm_enforce_eager": True}, "chats"),
    "merge": (
        {**MODEL, "adapter_name_or_path": "saves/sft", "template": "llama3", "export_dir": "output/llama3",
         "export_size": 5, "export_device": "cpu", "export_legacy_format": False},
        "export_dir",
    ),
    "gptq": (
        {**MODEL, "template": "llama3", "export_dir": "output/gptq", "export_quantization_bit": 4,
         "export_quantization_dataset": "data/c4_demo.jsonl", "export_size": 5},
        "export_dir",
    ),
    "eval": (
        {**MODEL, "finetuning_type": "lora", "task": "mmlu_test", "template": "fewshot", "lang": "en", "n_shot": 5,
         "save_dir": "saves/eval", "batch_size": 4},
        "benchmarks",
    ),
    "predict": (
        {**MODEL, "stage": "sft", "do_predict": True, "finetuning_type": "lora", "eval_dataset": "identity", **DATA,
         "output_dir": "saves/predict", "predict_with_generate": True, "per_device_eval_batch_size": 1},
        "palate generate",
    ),
}  # fmt: skip


def plan(folder: Path, given: dict[str, Any]) -> int:
    return main(["plan", str(config_file(folder / "example.yaml", given))])


@pytest.mark.parametrize("name", sorted(TEXT))
def test_an_example_of_a_stage_that_is_here_plans(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = TEXT[name]
    assert plan(tmp_path, given) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    for key, value in given.items():
        ours = f"\n{key}:" in said.out or f"# {key}:" in said.out
        # Settings of an optimiser are said under transformers' names.
        ours = ours or key.startswith(("galore_", "apollo_"))
        assert ours or key in said.err or value is None or key == "do_train", key


@pytest.mark.parametrize("name", sorted(NOT_HERE))
def test_a_way_to_train_that_is_not_here_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, keys = NOT_HERE[name]
    assert plan(tmp_path, {**TEXT["full/sft"], **own}) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(keys)
    for key, line in zip(keys, errors, strict=True):
        assert f": {key}" in line


@pytest.mark.parametrize("name", sorted(OTHER_COMMANDS))
def test_a_file_for_another_command_says_so(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, word = OTHER_COMMANDS[name]
    assert plan(tmp_path, given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a training config" in line
    assert word in line


def test_pretraining_is_no_stage_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, given = example("lora/pretrain", "pt", "c4_demo", LORA)
    assert plan(tmp_path, given) == 2
    assert "stage must be one of sft, rm, dpo, kto, ppo, grpo, not pt" in capsys.readouterr().err
