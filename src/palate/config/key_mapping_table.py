"""Keys of LLaMA-Factory, TRL and transformers that palate reads under another name, or that change nothing here.

A key is here where its meaning is known. What is neither here nor a key of palate is refused with the nearest name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Theirs → palate's, with the same values.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "evaluation_strategy": "eval_strategy",
        "label_smoothing": "dpo_label_smoothing",
        "activation_checkpointing": "gradient_checkpointing",
        "early_stopping_steps": "early_stopping_patience",
        "reward_model": "rewards",
        "num_ppo_epochs": "ppo_epochs",
        "router_aux_loss_coef": "moe_aux_loss_coef",
        "beta": "pref_beta",
        "new_special_tokens": "add_special_tokens",
    }
)

# TRL's online trainers call the coefficient of the KL penalty β too.
RENAMED_ONLINE: Mapping[str, str] = MappingProxyType({"beta": "kl_coef"})

_TEXT_ONLY = "palate trains on text"
_NEVER_PACKED_TOGETHER = "batches are always packed, and rows never see each other"
_PROCESSES = "torchrun or accelerate starts the processes"
_SPEED = "it changes speed, not the result"

# key → why no value of it has an effect
NO_EFFECT: Mapping[str, str] = MappingProxyType(
    {
        "overwrite_cache": "no tokenised dataset is cached",
        "tokenized_path": "no tokenised dataset is cached",
        "cache_dir": "HF_HOME says where models from the hub are kept",
        "preprocessing_batch_size": _SPEED,
        "preprocessing_num_workers": "the tokenizer uses all cores by itself",
        "streaming": "rows are read once and kept as tokens",
        "buffer_size": "rows are read once and kept as tokens",
        "data_shared_file_system": "each machine reads its own files",
        "plot_loss": "report.html always draws the loss",
        "use_fast_tokenizer": "palate always uses the fast tokenizer",
        "flash_attn": "attention chooses how attention is computed",
        "enable_liger_kernel": "palate brings its own log-probability kernel",
        "use_liger_kernel": "palate brings its own log-probability kernel",
        "liger_kernel_config": "palate brings its own log-probability kernel",
        "use_unsloth": "palate brings its own kernels",
        "use_unsloth_gc": "gradient_checkpointing turns recomputation on",
        "use_reentrant_gc": "recomputation is never re-entrant, with the same result",
        "disable_gradient_checkpointing": "gradient_checkpointing turns recomputation on",
        "gradient_checkpointing_kwargs": "recomputation is never re-entrant, with the same result",
        "activation_checkpointing_kwargs": "recomputation is never re-entrant, with the same result",
        "torch_compile": _SPEED,
        "torch_compile_backend": _SPEED,
        "torch_compile_mode": _SPEED,
        "torch_empty_cache_steps": _SPEED,
        "tf32": "float32 stays float32; precision: bf16 is what is fast",
        "low_cpu_mem_usage": "transformers always loads this way",
        "jit_mode_eval": _SPEED,
        "torchdynamo": _SPEED,
        "use_ipex": _SPEED,
        "use_cache": "training keeps no cache of keys and values",
        "use_kv_cache": "training keeps no cache of keys and values",
        "upcast_lmhead_output": "log-probabilities are always float32",
        "packing": _NEVER_PACKED_TOGETHER,
        "neat_packing": _NEVER_PACKED_TOGETHER,
        "group_by_length": "batches are packed without padding",
        "length_column_name": "batches are packed without padding",
        "auto_find_batch_size": "a batch that does not fit is split, with the same result",
        "remove_unused_columns": "palate reads its columns itself",
        "label_names": "palate reads its columns itself",
        "compute_accuracy": "token accuracy is not computed",
        "prediction_loss_only": "no predictions are kept",
        "predict_with_generate": "palate generate answers prompts",
        "eval_accumulation_steps": "no predictions are kept",
        "eval_num_beams": "palate generate answers prompts",
        "generation_max_length": "palate generate answers prompts",
        "generation_num_beams": "palate generate answers prompts",
        "length_penalty": "palate generate answers prompts",
        "skip_special_tokens": "palate generate answers prompts",
        "include_inputs_for_metrics": "no predictions are kept",
        "include_for_metrics": "no predictions are kept",
        "eval_do_concat_batches": "no predictions are kept",
        "eval_use_gather_object": "no predictions are kept",
        "use_legacy_prediction_loop": "no predictions are kept",
        "sortish_sampler": "batches are packed without padding",
        "batch_eval_metrics": "metrics are always computed batch by batch",
        "bf16_full_eval": "evaluation computes as training does",
        "fp16_full_eval": "evaluation computes as training does",
        "half_precision_backend": "precision chooses the number format",
        "fp16_opt_level": "precision chooses the number format",
        "fp16_backend": "precision chooses the number format",
        "save_safetensors": "weights are always safetensors",
        "logging_dir": "TensorBoard events are in output_dir/runs",
        "logging_first_step": "the first step is always logged",
        "logging_strategy": "metrics.jsonl has every step",
        "logging_nan_inf_filter": "what is not finite is never hidden",
        "log_level": "progress goes to stderr",
        "log_level_replica": "progress goes to stderr",
        "log_on_each_node": "the first process prints",
        "disable_tqdm": "progress goes to stderr",
        "print_param_status": "the number of trained parameters is always printed",
        "include_num_input_tokens_seen": "tokens are not counted in the trackers",
        "include_tokens_per_second": "run.json has the timings",
        "include_effective_tokens_per_second": "run.json has the timings",
        "project": "it names a project of Trackio; wandb_project names one of W&B",
        "enable_jit_checkpoint": "a signal always saves a checkpoint",
        "skip_memory_metrics": "run.json has the peak memory",
        "dataloader_pin_memory": _SPEED,
        "dataloader_persistent_workers": _SPEED,
        "dataloader_multiprocessing_context": _SPEED,
        "dataloader_prefetch_factor": _SPEED,
        "average_tokens_across_devices": "a step is the exact mean over all processes",
        "ddp_find_unused_parameters": _PROCESSES,
        "ddp_bucket_cap_mb": _PROCESSES,
        "ddp_broadcast_buffers": _PROCESSES,
        "ddp_backend": _PROCESSES,
        "ddp_static_graph": _PROCESSES,
        "local_rank": _PROCESSES,
        "restore_callback_states_from_checkpoint": "a resumed run always goes on as it was",
        "use_mps_device": "the device is found",
        "placement_strategy": _PROCESSES,
        "resources_per_worker": _PROCESSES,
        "master_addr": _PROCESSES,
        "master_port": _PROCESSES,
        "infer_backend": "it is for chat, not for training",
        "infer_dtype": "it is for chat, not for training",
        "offload_folder": "it is for chat, not for training",
        "reward_model_type": "the folder says what kind of reward model it holds",
        "freeze_vision_tower": _TEXT_ONLY,
        "freeze_multi_modal_projector": _TEXT_ONLY,
        "media_dir": _TEXT_ONLY,
        "use_audio_in_video": _TEXT_ONLY,
        "crop_to_patches": _TEXT_ONLY,
    }
)

# beginning of keys → why no value of them has an effect
NO_EFFECT_PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "image_": _TEXT_ONLY,
        "video_": _TEXT_ONLY,
        "audio_": _TEXT_ONLY,
        "ray_": _PROCESSES,
        "vllm_": "it is for chat, not for training",
        "trackio_": "Trackio is not supported; report_to takes tensorboard and wandb",
        "sglang_": "it is for chat, not for training",
    }
)

# key → the value that agrees with what `palate train` does anyway, and what it does
FIXED: Mapping[str, tuple[bool, str]] = MappingProxyType(
    {
        "do_train": (True, "palate train always trains"),
        "do_eval": (True, "held-out rows are always evaluated at the end; eval_strategy says when else"),
        "do_predict": (False, "palate generate and palate eval do that"),
    }
)


@dataclass(frozen=True, slots=True)
class OnlyValue:
    """A key of which palate can do one thing only.

    Attributes:
        values: those that ask for just that; they are accepted. null always is.
        otherwise: what to do about any other, a sentence without its full stop.
        companions: how the keys begin that have no effect while this one has such a value.
    """

    values: tuple[object, ...]
    otherwise: str
    companions: tuple[str, ...] = ()


_OPTIMISER = "take one of the optimisers that optim lists, or finetuning_type: lora to save memory"
_NO_METHOD = "palate does not have this; remove it, or take finetuning_type full, lora or freeze as they are"

ONLY: Mapping[str, OnlyValue] = MappingProxyType(
    {
        # LLaMA-Factory's ways to train
        "use_galore": OnlyValue((False, True), _OPTIMISER, ("galore_",)),
        "use_apollo": OnlyValue((False, True), _OPTIMISER, ("apollo_",)),
        "use_badam": OnlyValue((False,), _OPTIMISER, ("badam_",)),
        "use_adam_mini": OnlyValue((False,), _OPTIMISER),
        "use_muon": OnlyValue((False,), _OPTIMISER),
        "loraplus_lr_ratio": OnlyValue((), "LoRA+ is not available; remove it", ("loraplus_lr_embedding",)),
        "use_llama_pro": OnlyValue((False,), _NO_METHOD),
        "pissa_init": OnlyValue((False,), "PiSSA is not available; remove it", ("pissa_",)),
        "mixture_of_depths": OnlyValue((), _NO_METHOD),
        "use_dft_loss": OnlyValue((False,), "stage sft has the cross-entropy; remove it"),
        "use_eaft_loss": OnlyValue((False,), "stage sft has the cross-entropy; remove it", ("eaft_",)),
        "use_asft_loss": OnlyValue((False,), "stage sft has the cross-entropy; remove it", ("asft_",)),
        "freeze_language_model": OnlyValue((False,), "palate trains on text; remove it"),
        "freeze_trainable_modules": OnlyValue(("all",), "whole layers train; freeze_extra_modules adds modules"),
        "shift_attn": OnlyValue((False,), "shifted attention is not available; remove it"),
        "train_from_scratch": OnlyValue((False,), "palate starts from trained weights; remove it"),
        "upcast_layernorm": OnlyValue((False,), "take precision: fp32 to compute all in float32"),
        "fp8": OnlyValue((False,), "take precision: bf16", ("fp8_",)),
        "disable_shuffling": OnlyValue((False,), "rows are always shuffled, by data_seed; remove it"),
        # its quantisation
        "quantization_method": OnlyValue(("bnb", "bitsandbytes"), "only bitsandbytes is available (bnb)"),
        "quantization_type": OnlyValue(("nf4",), "4 bits are always nf4"),
        "quantization_device_map": OnlyValue(("auto",), "each process loads the model on its own device; remove it"),
        # its data
        "ignore_pad_token_for_loss": OnlyValue((True,), "padding is never trained on; remove it"),
        "split_special_tokens": OnlyValue((False,), "special tokens of a template are one token each; remove it"),
        "eval_on_each_dataset": OnlyValue((False,), "eval_dataset is evaluated as one; remove it"),
        "tool_format": OnlyValue((), "the template writes tools in its own format; remove it"),
        "default_system": OnlyValue((), "put the system text into the rows' system column"),
        "init_special_tokens": OnlyValue(("noise_init",), "a new token begins as the mean of the others; remove it"),
        # its references and reward models
        "ref_model_adapters": OnlyValue((), "merge the adapter into ref_model"),
        "ref_model_quantization_bit": OnlyValue((), "the reference computes as the policy does; remove it"),
        "reward_model_adapters": OnlyValue((), "name the adapter's own folder in rewards"),
        "reward_model_quantization_bit": OnlyValue((), "reward models are not quantised; remove it"),
        "ppo_buffer_size": OnlyValue((1,), "a step's answers are used at once; raise gradient_accumulation_steps"),
        "top_k": OnlyValue((0, -1), "answers are sampled from all tokens; top_p narrows them"),
        "num_beams": OnlyValue((1,), "answers are sampled; remove it"),
        "repetition_penalty": OnlyValue((1, 1.0), "answers are sampled from the model's own distribution; remove it"),
        "do_sample": OnlyValue((True,), "answers are always sampled; remove it"),
        "adapter_folder": OnlyValue((), "name the adapter's own folder in adapter_name_or_path"),
        "rope_scaling": OnlyValue((), "write it into the model's config.json"),
        # trackers and the hub
        "use_swanlab": OnlyValue((False,), "take report_to: tensorboard or wandb", ("swanlab_",)),
        "push_to_hub": OnlyValue((False,), "upload output_dir after the run, with `hf upload`", ("hub_",)),
        # transformers
        "use_cpu": OnlyValue((False,), "hide the GPU with CUDA_VISIBLE_DEVICES= before the command"),
        "no_cuda": OnlyValue((False,), "hide the GPU with CUDA_VISIBLE_DEVICES= before the command"),
        "accelerator_config": OnlyValue((), "batches are made by palate; remove it"),
        "parallelism_config": OnlyValue((), "take fsdp or deepspeed"),
        "fsdp_min_num_params": OnlyValue((0,), "write min_num_params into fsdp_config"),
        "fsdp_transformer_layer_cls_to_wrap": OnlyValue((), "write transformer_layer_cls_to_wrap into fsdp_config"),
        "adafactor": OnlyValue((False,), "write optim: adafactor"),
        "label_smoothing_factor": OnlyValue((0,), "smoothing is for preferences: dpo_label_smoothing"),
        "debug": OnlyValue(("",), "remove it"),
        "dataloader_in_order": OnlyValue((True,), "batches are always in order; remove it"),
        "train_sampling_strategy": OnlyValue(("random",), "rows are shuffled, by data_seed; remove it"),
        "dataloader_drop_last": OnlyValue((False,), "no row is left out; remove it"),
        "eval_delay": OnlyValue((0,), "evaluations begin with the run; remove it"),
        "eval_on_start": OnlyValue((False,), "the start is always sampled, not evaluated; remove it"),
        "ignore_data_skip": OnlyValue((False,), "a resumed run goes on where it stopped; remove it"),
        "full_determinism": OnlyValue((False,), "seed fixes everything random; remove it"),
        "save_on_each_node": OnlyValue((False,), "the first process saves; remove it"),
    }
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """One of LLaMA-Factory's switches for an optimiser of low rank.

    Attributes:
        prefix: of its settings' keys.
        optimisers: how transformers calls it, by the beginning of the optimiser that `optim` names.
        settings: transformers' name of a setting → LLaMA-Factory's name and its default.
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

# What people type who come from elsewhere; offered, never assumed.
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

# Keys of LLaMA-Factory's files for other commands → what the file is for.
OTHER_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "export_dir": "it merges and exports a model, for which palate has no verb yet",
        "task": "it measures benchmarks, for which palate has no verb yet",
        "infer_backend": "it chats with a model or serves it, for which palate has no verb yet",
    }
)
