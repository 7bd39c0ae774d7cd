"""Keys that other trainers' configs bring along: which palate reads under another name, and which mean nothing here.

Every key of this page is accepted with one line that says what became of it. Keys that would change the result, and
that palate does not have, are not on it: those are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from palate.config.reader import Entry, as_yaml
from palate.errors import ConfigError

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "evaluation_strategy": "eval_strategy",
        "label_smoothing": "dpo_label_smoothing",
        "activation_checkpointing": "gradient_checkpointing",
        "reward_model": "rewards",
        "num_ppo_epochs": "ppo_epochs",
        "router_aux_loss_coef": "moe_aux_loss_coef",
        "new_special_tokens": "add_special_tokens",
    }
)

# key → why it has no effect
NO_EFFECT: Mapping[str, str] = MappingProxyType(
    {
        "overwrite_cache": "no tokenised dataset is cached",
        "plot_loss": "report.html always draws the loss",
        "use_fast_tokenizer": "palate always uses the fast tokenizer",
        "flash_attn": "attention chooses how attention is computed",
        "enable_liger_kernel": "palate brings its own log-probability kernel",
        "low_cpu_mem_usage": "transformers always loads this way",
        "packing": "batches are always packed, and rows never see each other",
        "neat_packing": "batches are always packed, and rows never see each other",
        "group_by_length": "batches are packed without padding",
        "remove_unused_columns": "palate reads its columns itself",
        "save_safetensors": "weights are always safetensors",
        "logging_dir": "TensorBoard events are in output_dir/runs",
        "logging_first_step": "the first step is always logged",
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

# What people type who come from elsewhere; offered, never assumed.
KNOWN_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "beta": "pref_beta",
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


def translate(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str]]:
    """Peers' keys into palate's own, and one notice for each key that is not what it seems.

    Raises ConfigError where two keys say the same thing differently.
    """
    ours: dict[str, Entry] = {}
    notices: list[str] = []
    for key, entry in entries.items():
        if key in RENAMED:
            name = RENAMED[key]
            if name in entries:
                raise ConfigError(f"{entry.where}: {key} and {name} are the same setting; keep {name}")
            ours[name] = entry
            notices.append(f"{key} is read as {name}")
        elif key in NO_EFFECT:
            notices.append(f"{key} has no effect here: {NO_EFFECT[key]}")
        elif key in FIXED:
            agrees, what_happens = FIXED[key]
            if entry.value is not agrees:
                notices.append(f"{key}: {as_yaml(entry.value)} has no effect here: {what_happens}")
        elif key not in ("bf16", "fp16"):
            ours[key] = entry
    ours, said = _precision(entries, ours)
    return ours, notices + said


def _precision(entries: Mapping[str, Entry], ours: dict[str, Entry]) -> tuple[dict[str, Entry], list[str]]:
    """`bf16` and `fp16` are two switches for one choice."""
    switches = {key: entries[key] for key in ("bf16", "fp16") if key in entries and entries[key].value is not None}
    for key, entry in switches.items():
        if not isinstance(entry.value, bool):
            raise ConfigError(f"{entry.where}: {key} must be true or false, not {as_yaml(entry.value)}")
    on = [key for key, entry in switches.items() if entry.value]
    if len(on) == 2:
        raise ConfigError(f"{switches['fp16'].where}: bf16 and fp16 cannot both be true; write precision: bf16")
    if on:
        chosen = on[0]
    elif "bf16" in switches:
        chosen = "fp32"  # who says "not bf16" means full precision; fp16 alone off leaves the choice open
    else:
        return ours, []
    key = on[0] if on else "bf16"
    if "precision" in ours:
        if ours["precision"].value != chosen:
            raise ConfigError(
                f"{switches[key].where}: {key}: {as_yaml(switches[key].value)} and "
                f"precision: {as_yaml(ours['precision'].value)} disagree; keep precision"
            )
        return ours, []
    return (
        {**ours, "precision": Entry(chosen, switches[key].where)},
        [f"{key}: {as_yaml(switches[key].value)} is read as precision: {chosen}"],
    )
