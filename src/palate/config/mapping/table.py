"""Keys of LLaMA-Factory, TRL and transformers that palate reads under another name, ignores, or takes with some values.

Only keys with a known meaning are listed. All other unknown keys are refused with the nearest name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Their key → palate's, with the same values.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "evaluation_strategy": "eval_strategy",
        "label_smoothing": "dpo_label_smoothing",
        "activation_checkpointing": "gradient_checkpointing",
        "enable_liger_kernel": "use_liger_kernel",
        "early_stopping_steps": "early_stopping_patience",
        "reward_model": "rewards",
        "num_ppo_epochs": "ppo_epochs",
        "router_aux_loss_coef": "moe_aux_loss_coef",
        "beta": "pref_beta",
        "new_special_tokens": "add_special_tokens",
    }
)

# In TRL's online trainers β is the coefficient of the KL penalty.
RENAMED_ONLINE: Mapping[str, str] = MappingProxyType({"beta": "kl_coef"})

# Reason why no value of a key has an effect → the keys; a name that ends with * is a prefix.
_NO_EFFECT: Mapping[str, str] = {
    "no tokenised dataset is cached": "overwrite_cache tokenized_path",
    "HF_HOME names the cache of models from the hub": "cache_dir",
    "the tokenizer uses all cores by itself": "preprocessing_num_workers",
    "it changes speed, not the result": "preprocessing_batch_size torch_compile torch_compile_backend "
    "torch_compile_mode torch_empty_cache_steps jit_mode_eval torchdynamo use_ipex dataloader_pin_memory "
    "dataloader_persistent_workers dataloader_multiprocessing_context dataloader_prefetch_factor",
    "rows are read once and kept as tokens": "streaming buffer_size",
    "each machine reads its own files": "data_shared_file_system",
    "report.html always shows the loss": "plot_loss",
    "palate always uses the fast tokenizer": "use_fast_tokenizer",
    "attention chooses the attention kernel": "flash_attn",
    "use_liger_kernel takes all kernels of liger-kernel but its losses": "liger_kernel_config",
    "palate has its own kernels": "use_unsloth",
    "gradient_checkpointing turns recomputation on": "use_unsloth_gc disable_gradient_checkpointing",
    "recomputation is never re-entrant, with the same result": "use_reentrant_gc gradient_checkpointing_kwargs "
    "activation_checkpointing_kwargs",
    "float32 is computed without TF32; precision: bf16 is faster": "tf32",
    "models are always loaded this way": "low_cpu_mem_usage",
    "training uses no cache of keys and values": "use_cache use_kv_cache",
    "log-probabilities are always float32": "upcast_lmhead_output",
    "batches are always packed, and rows do not attend to each other": "packing neat_packing",
    "batches are packed without padding": "group_by_length length_column_name sortish_sampler",
    "a batch that does not fit is split, with the same result": "auto_find_batch_size",
    "palate selects columns itself": "remove_unused_columns label_names",
    "token accuracy is not computed": "compute_accuracy",
    "the model is uploaded once, at the end": "hub_strategy hub_always_push",
    "no predictions are kept": "prediction_loss_only eval_accumulation_steps include_inputs_for_metrics "
    "include_for_metrics eval_do_concat_batches eval_use_gather_object use_legacy_prediction_loop",
    "use palate generate to answer prompts": "predict_with_generate eval_num_beams generation_max_length "
    "generation_num_beams length_penalty skip_special_tokens",
    "metrics are always computed batch by batch": "batch_eval_metrics",
    "evaluation uses the precision of training": "bf16_full_eval fp16_full_eval",
    "precision chooses the number format": "half_precision_backend fp16_opt_level fp16_backend",
    "weights are always safetensors": "save_safetensors",
    "TensorBoard events are in output_dir/runs": "logging_dir",
    "the first step is always logged": "logging_first_step",
    "metrics.jsonl has every step": "logging_strategy",
    "NaN and infinity are always shown": "logging_nan_inf_filter",
    "progress goes to stderr": "log_level log_level_replica disable_tqdm",
    "the first process prints": "log_on_each_node",
    "the number of trained parameters is always printed": "print_param_status",
    "trackers do not count tokens": "include_num_input_tokens_seen",
    "run.json has the timings": "include_tokens_per_second include_effective_tokens_per_second",
    "TRACKIO_SPACE_ID names the Space; without it Trackio stores metrics on this machine": "trackio_*",
    "a signal always saves a checkpoint": "enable_jit_checkpoint",
    "run.json has the peak memory": "skip_memory_metrics",
    "the step is the exact mean over all processes": "average_tokens_across_devices",
    "torchrun or accelerate starts the processes": "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
    "ddp_backend ddp_static_graph local_rank placement_strategy resources_per_worker master_addr master_port ray_*",
    "a resumed run always continues exactly": "restore_callback_states_from_checkpoint",
    "the device is detected": "use_mps_device",
    "it is for chat, not for training": "infer_backend infer_dtype offload_folder vllm_* sglang_*",
    "the kind of reward model is read from its folder": "reward_model_type",
    "palate trains on text": "freeze_vision_tower freeze_multi_modal_projector media_dir use_audio_in_video "
    "crop_to_patches image_* video_* audio_*",
}
_REASONS = {key: reason for reason, keys in _NO_EFFECT.items() for key in keys.split()}

# key, or prefix of keys → why no value has an effect
NO_EFFECT: Mapping[str, str] = MappingProxyType({k: why for k, why in _REASONS.items() if not k.endswith("*")})
NO_EFFECT_PREFIXES: Mapping[str, str] = MappingProxyType(
    {key.removesuffix("*"): why for key, why in _REASONS.items() if key.endswith("*")}
)

# key → the value that `palate train` always acts on, and what it does
FIXED: Mapping[str, tuple[bool, str]] = MappingProxyType(
    {
        "do_train": (True, "palate train always trains"),
        "do_eval": (True, "held-out rows are always evaluated at the end; eval_strategy adds evaluations"),
        "do_predict": (False, "use palate generate and palate eval"),
    }
)


@dataclass(frozen=True, slots=True)
class OnlyValue:
    """A key that palate supports only with some values.

    Attributes:
        values: the supported values, which have no effect; null is always accepted.
        otherwise: what to do instead of any other value, without a full stop.
        companions: prefixes of keys that have no effect with these values.
    """

    values: tuple[object, ...]
    otherwise: str
    companions: tuple[str, ...] = ()


_OPTIMISER = "choose another optimiser with optim, or finetuning_type: lora to save memory"
_NO_METHOD = "palate does not have this; remove it, and use finetuning_type full, lora or freeze"

ONLY: Mapping[str, OnlyValue] = MappingProxyType(
    {
        # LLaMA-Factory: training
        "use_galore": OnlyValue((False, True), _OPTIMISER, ("galore_",)),
        "use_apollo": OnlyValue((False, True), _OPTIMISER, ("apollo_",)),
        "use_badam": OnlyValue((False,), _OPTIMISER, ("badam_",)),
        "use_adam_mini": OnlyValue((False,), _OPTIMISER),
        "use_muon": OnlyValue((False,), _OPTIMISER),
        "loraplus_lr_ratio": OnlyValue((), "LoRA+ is not available; remove it", ("loraplus_lr_embedding",)),
        "use_llama_pro": OnlyValue((False,), _NO_METHOD),
        "pissa_init": OnlyValue((False,), "PiSSA is not available; remove it", ("pissa_",)),
        "mixture_of_depths": OnlyValue((), _NO_METHOD),
        "use_dft_loss": OnlyValue((False,), "stage sft uses cross-entropy; remove it"),
        "use_eaft_loss": OnlyValue((False,), "stage sft uses cross-entropy; remove it", ("eaft_",)),
        "use_asft_loss": OnlyValue((False,), "stage sft uses cross-entropy; remove it", ("asft_",)),
        "freeze_language_model": OnlyValue((False,), "palate trains on text; remove it"),
        "freeze_trainable_modules": OnlyValue(("all",), "whole layers are trained; freeze_extra_modules adds modules"),
        "shift_attn": OnlyValue((False,), "shifted attention is not available; remove it"),
        "train_from_scratch": OnlyValue((False,), "palate starts from trained weights; remove it"),
        "upcast_layernorm": OnlyValue((False,), "use precision: fp32 to compute everything in float32"),
        "fp8": OnlyValue((False,), "use precision: bf16", ("fp8_",)),
        "disable_shuffling": OnlyValue((False,), "rows are always shuffled, by data_seed; remove it"),
        # LLaMA-Factory: quantisation
        "quantization_method": OnlyValue(("bnb", "bitsandbytes"), "only bitsandbytes is available (bnb)"),
        "quantization_type": OnlyValue(("nf4",), "4 bits are always nf4"),
        "quantization_device_map": OnlyValue(("auto",), "each process loads the model on its own device; remove it"),
        # LLaMA-Factory: data
        "ignore_pad_token_for_loss": OnlyValue((True,), "padding is never trained on; remove it"),
        "split_special_tokens": OnlyValue((False,), "a special token is always one token; remove it"),
        "eval_on_each_dataset": OnlyValue((False,), "eval_dataset is evaluated as a whole; remove it"),
        "tool_format": OnlyValue((), "the template writes tools in its own format; remove it"),
        "default_system": OnlyValue((), "put the system text into the rows' system column"),
        "init_special_tokens": OnlyValue(("noise_init",), "a new token starts as the mean of the others; remove it"),
        # LLaMA-Factory: references, reward models, sampling
        "ref_model_adapters": OnlyValue((), "merge the adapter into ref_model"),
        "ref_model_quantization_bit": OnlyValue((), "the reference uses the policy's number format; remove it"),
        "reward_model_adapters": OnlyValue((), "name the adapter's own folder in rewards"),
        "reward_model_quantization_bit": OnlyValue((), "reward models are not quantised; remove it"),
        "ppo_buffer_size": OnlyValue((1,), "answers are not buffered; raise gradient_accumulation_steps"),
        "top_k": OnlyValue((0, -1), "sampling uses all tokens; use top_p instead"),
        "num_beams": OnlyValue((1,), "answers are sampled; remove it"),
        "repetition_penalty": OnlyValue((1, 1.0), "answers are sampled from the model's own distribution; remove it"),
        "do_sample": OnlyValue((True,), "answers are always sampled; remove it"),
        "adapter_folder": OnlyValue((), "name the adapter's own folder in adapter_name_or_path"),
        "rope_scaling": OnlyValue((), "write it into the model's config.json"),
        # trackers and the hub
        "use_swanlab": OnlyValue((False,), "use report_to: tensorboard, wandb, mlflow or trackio", ("swanlab_",)),
        "hub_token": OnlyValue((), "the environment variable HF_TOKEN has the token; remove it"),
        "hub_revision": OnlyValue(("main",), "the model is uploaded to main; remove it"),
        # transformers
        "use_cpu": OnlyValue((False,), "hide the GPU with CUDA_VISIBLE_DEVICES= before the command"),
        "no_cuda": OnlyValue((False,), "hide the GPU with CUDA_VISIBLE_DEVICES= before the command"),
        "accelerator_config": OnlyValue((), "batches are made by palate; remove it"),
        "parallelism_config": OnlyValue((), "use fsdp or deepspeed"),
        "fsdp_min_num_params": OnlyValue((0,), "write min_num_params into fsdp_config"),
        "fsdp_transformer_layer_cls_to_wrap": OnlyValue((), "write transformer_layer_cls_to_wrap into fsdp_config"),
        "adafactor": OnlyValue((False,), "write optim: adafactor"),
        "label_smoothing_factor": OnlyValue((0,), "use dpo_label_smoothing, which smooths preferences"),
        "debug": OnlyValue(("",), "remove it"),
        "dataloader_in_order": OnlyValue((True,), "batches are always in order; remove it"),
        "train_sampling_strategy": OnlyValue(("random",), "rows are shuffled, by data_seed; remove it"),
        "dataloader_drop_last": OnlyValue((False,), "no row is dropped; remove it"),
        "eval_delay": OnlyValue((0,), "evaluations start with the run; remove it"),
        "eval_on_start": OnlyValue((False,), "the start is only sampled, not evaluated; remove it"),
        "ignore_data_skip": OnlyValue((False,), "a resumed run continues at its row; remove it"),
        "full_determinism": OnlyValue((False,), "seed sets every random number; remove it"),
        "save_on_each_node": OnlyValue((False,), "the first process saves; remove it"),
    }
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """A LLaMA-Factory switch for a low-rank optimiser.

    Attributes:
        prefix: prefix of its settings' keys.
        optimisers: the value of `optim` → transformers' name of the low-rank optimiser.
        settings: transformers' name of a setting → LLaMA-Factory's name and default.
    """

    prefix: str
    optimisers: Mapping[str, str]
    settings: Mapping[str, tuple[str, object]]


_PROJECTION: Mapping[str, tuple[str, object]] = {
    "rank": ("rank", 16),
    "update_proj_gap": ("update_interval", 200),
    "proj_type": ("proj_type", "std"),
}
LOW_RANK: Mapping[str, LowRank] = MappingProxyType(
    {
        "use_galore": LowRank(
            "galore_",
            {
                "adamw_torch": "galore_adamw",
                "adamw_bnb_8bit": "galore_adamw_8bit",
                "adamw_8bit": "galore_adamw_8bit",
                "adafactor": "galore_adafactor",
            },
            {**_PROJECTION, "scale": ("scale", 2.0)},
        ),
        "use_apollo": LowRank(
            "apollo_",
            {"adamw_torch": "apollo_adamw"},
            {
                **_PROJECTION,
                "scale": ("scale", 32.0),
                "proj": ("proj", "random"),
                "scale_type": ("scale_type", "channel"),
            },
        ),
    }
)

# Common keys of other trainers → the key to suggest in the error message.
KNOWN_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "loss_type": "pref_loss",
        "rpo_alpha": "pref_ftx",
        "max_length": "cutoff_len",
        "max_seq_length": "cutoff_len",
        "lr": "learning_rate",
        "batch_size": "per_device_train_batch_size",
        "epochs": "num_train_epochs",
        "num_epochs": "num_train_epochs",
        "model": "model_name_or_path",
        "model_name": "model_name_or_path",
        "train_file": "dataset",
        "dataset_name": "dataset",
        "lora_r": "lora_rank",
        "ref_model_name_or_path": "ref_model",
        "load_in_4bit": "quantization_bit",
        "load_in_8bit": "quantization_bit",
    }
)

# Keys of LLaMA-Factory's files for other commands → what such a file does.
OTHER_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "export_dir": "it merges and exports a model, for which palate has no command yet",
        "task": "it runs benchmarks, for which palate has no command yet",
        "infer_backend": "it chats with a model or serves it, for which palate has no command yet",
    }
)
