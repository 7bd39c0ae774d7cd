"""The keys of the model, its precision, and the parameters that are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import model_validator

from palate.config.base import Fields, setting
from palate.config.values import LoraTarget, Names, PathText, PathTexts

MODEL_KEYS = ("model_name_or_path", "adapter_name_or_path", "ref_model")
"""The keys whose values name models: folders, or hub ids."""


class ModelFields(Fields):
    """Model: the model to train, and how it is computed."""

    model_name_or_path: PathText = setting(..., "Folder or hub id of the model to train.", min_length=1)
    model_revision: str | None = setting(None, "Branch, tag or commit of a hub model.")
    adapter_name_or_path: PathTexts | None = setting(
        None,
        "Folder or hub id of a LoRA adapter to continue. Of several (a list, or names with commas), all "
        "but the last are merged into the model first, in order; with full and freeze, all are.",
    )
    add_tokens: Names = setting([], "Ordinary tokens to add to the tokenizer: a list, or names with commas.")
    add_special_tokens: Names = setting([], "Special tokens to add to the tokenizer, such as `<think>`.")
    resize_vocab: bool = setting(
        lambda data: bool(data.get("add_tokens") or data.get("add_special_tokens")),
        "Resize the embedding to the tokenizer; a new row is the mean of the others.",
        shown="true if tokens are added",
    )
    trust_remote_code: bool = setting(False, "Run Python code from the model's repository.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "Number format of the computation; auto is bf16 if the hardware supports it, else fp32."
    )
    attention: Literal["auto", "tree", "varlen", "flex", "padded"] = setting(
        "auto",
        "tree computes each prompt once for all its answers; varlen and flex do the same with a "
        "variable-length kernel or FlexAttention (CUDA only, not measured yet); padded computes padded rows. auto is "
        "the first that passes a check at load: on CUDA varlen, flex, tree, padded; on a CPU tree, padded.",
    )
    use_liger_kernel: bool = setting(
        False,
        "Norms, gated MLP and rotary positions by the kernels of the package liger-kernel (GPU), where a "
        "check at load finds them equal to the model's own. Its losses are not used.",
    )
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass: less memory, more time.")


class TuningFields(Fields):
    """Trained parameters: all of them, LoRA matrices, or some layers."""

    finetuning_type: Literal["full", "lora", "freeze"] = setting(
        "full", "full trains all weights, lora adds low-rank matrices, freeze trains only some layers."
    )
    lora_target: LoraTarget = setting("all", "Modules with LoRA matrices: all linear layers, or a list of names.")
    create_new_adapter: bool = setting(
        False,
        "Merge all adapters of adapter_name_or_path into the model and train a new one. The merged model "
        "is the reference.",
    )
    additional_target: Names = setting(
        [],
        "Modules that are fully trained and saved with the LoRA adapter, e.g. embed_tokens, lm_head.",
        shown="none; embedding and LM head if tokens are added",
    )
    lora_rank: int = setting(8, "Rank of the LoRA matrices.", ge=1)
    lora_alpha: int = setting(
        lambda data: 2 * data["lora_rank"] if "lora_rank" in data else 16,
        "LoRA scaling numerator.",
        shown="2 × lora_rank",
        gt=0,
    )
    lora_dropout: float = setting(0.0, "Dropout on the input of the LoRA matrices.", ge=0, lt=1)
    use_dora: bool = setting(False, "Weight-decomposed LoRA (DoRA).")
    use_rslora: bool = setting(False, "Rank-stabilised LoRA scaling.")
    quantization_bit: Literal[4, 8] | None = setting(
        None, "Load the frozen base weights in 4 or 8 bits (QLoRA; needs lora and a CUDA device)."
    )
    double_quantization: bool = setting(
        True, "With quantization_bit: 4, also quantise the scales, which saves 0.4 bits per weight."
    )
    freeze_trainable_layers: int = setting(
        2, "Number of last decoder layers that freeze trains; a negative number means the first layers."
    )
    freeze_extra_modules: Names = setting([], "Further modules that freeze trains, e.g. lm_head, embed_tokens, norm.")

    @model_validator(mode="after")
    def _check_tuning(self) -> Any:
        if self.freeze_trainable_layers == 0:
            raise ValueError(
                "freeze_trainable_layers must be at least 1 (the last layers) or at most -1 (the first layers), not 0"
            )
        if self.quantization_bit is not None and self.finetuning_type != "lora":
            raise ValueError(
                f"quantization_bit: {self.quantization_bit} needs finetuning_type: lora (quantized weights cannot be "
                f"trained); it is {self.finetuning_type}"
            )
        return self


def adapter_names(named: str | Sequence[str] | None) -> tuple[str, ...]:
    """The adapters of `adapter_name_or_path`, which is a list or names with commas."""
    parts = named.split(",") if isinstance(named, str) else named or ()
    return tuple(part.strip() for part in parts if part.strip())


def split_adapters(
    adapters: Sequence[str], finetuning_type: str, *, create_new_adapter: bool
) -> tuple[tuple[str, ...], str | None]:
    """The adapters that are merged into the model before training, in order, and the one that training continues."""
    if finetuning_type != "lora" or create_new_adapter or not adapters:
        return tuple(adapters), None
    return tuple(adapters[:-1]), adapters[-1]


def merged_adapters(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The adapters that a LoRA run with the config of this run.json merged into the base before it trained its own."""
    adapters = adapter_names(config.get("adapter_name_or_path"))
    return split_adapters(adapters, "lora", create_new_adapter=bool(config.get("create_new_adapter")))[0]
