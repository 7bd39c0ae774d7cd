"""Choose the trained parameters: all of them, LoRA adapters, an existing adapter, or some of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers.pytorch_utils import Conv1D

from palate.artifacts import check_weights
from palate.errors import ConfigError, ModelError
from palate.models.tuning.module_names import check_module_names, linear_names, names_module, router_names
from palate.models.tuning.vocabulary import adapter_rows, embedding_modules, enlarge_embedding, whole_modules
from palate.models.upstream import first_line, quiet

TASKS = {"lm": "CAUSAL_LM", "reward": "SEQ_CLS"}
"""PEFT's task for each head."""


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    target: str | Sequence[str] = "all",
    dora: bool = False,
    rslora: bool = False,
    whole: Sequence[str] = (),
    task: str = "CAUSAL_LM",
) -> nn.Module:
    """Freeze the model and add LoRA matrices (2106.09685) to its linear layers, except the head.

    Args:
        target: `all` for every linear layer but the routers of a mixture of experts, or module names.
        whole: names of modules that train completely and are saved with the adapter. A tied embedding and head stay
            tied: they train as one.
        dora: 2402.09353.
        rslora: 2312.03732.
        task: PEFT's task type; with `SEQ_CLS` the scalar head trains completely.
    """
    modules = whole_modules(model, whole, target)
    ties = False
    if modules and any(name in whole for name in embedding_modules(model)):
        head: Any = model.get_output_embeddings()  # type: ignore[operator]
        ties = head is not None and head.weight is model.get_input_embeddings().weight  # type: ignore[operator]
    if target == "all" and router_names(model):
        target = linear_names(model)  # PEFT's "all-linear" includes the routers
    elif target != "all":
        target = [target] if isinstance(target, str) else list(target)
        check_module_names(model, "lora_target", target, linear=True)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if target == "all" else list(target),
        use_dora=dora,
        use_rslora=rslora,
        modules_to_save=modules or None,
        ensure_weight_tying=ties,
        # GPT-2's linear layers store their weights transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type=task,
    )
    try:
        with quiet():
            return get_peft_model(model, config)  # type: ignore[no-any-return]
    except ValueError as error:
        raise ConfigError(f"lora_target: {first_line(error)}") from error


def continue_adapter(model: nn.Module, adapter: str, *, task: str = "CAUSAL_LM") -> nn.Module:
    """Load an earlier adapter and continue training it."""
    return _load_adapter(model, adapter, task, trainable=True)  # type: ignore[no-any-return]


def merge_adapter(model: nn.Module, adapter: str, *, task: str = "CAUSAL_LM") -> nn.Module:
    """Merge an earlier adapter into the weights."""
    return _load_adapter(model, adapter, task, trainable=False).merge_and_unload()  # type: ignore[no-any-return]


def _load_adapter(model: nn.Module, adapter: str, task: str, *, trainable: bool) -> Any:
    folder = Path(adapter)
    if folder.exists() and not (folder / "adapter_config.json").exists():
        raise ModelError(f"{adapter}: not an adapter folder, adapter_config.json is missing")
    if folder.exists() and not (folder / "adapter_model.safetensors").exists():
        raise ModelError(f"{adapter}: the adapter has no weights (adapter_model.safetensors)")
    try:
        if folder.exists():
            check_weights(folder)
            enlarge_embedding(model, adapter_rows(folder))
        config = PeftConfig.from_pretrained(adapter)
        was, config.task_type, config.inference_mode = config.task_type, task, not trainable
        with quiet():
            if task == "SEQ_CLS" and was != task:
                return _with_new_head(model, adapter, config)
            return PeftModel.from_pretrained(model, adapter, is_trainable=trainable, config=config)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{adapter}: the adapter could not be loaded: {first_line(error)}") from error


def _with_new_head(model: nn.Module, adapter: str, config: Any) -> Any:
    """A language model's adapter on a reward model, whose scalar head is kept: the adapter has none.

    A vocabulary head in the adapter is ignored: a reward model has none.
    """
    paths = [path for path, _ in model.named_modules()]
    whole = [name for name in config.modules_to_save or () if any(path.endswith(name) for path in paths)]
    config.modules_to_save, config.ensure_weight_tying = whole or None, False
    adapted = get_peft_model(model, config)
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    given = load_peft_weights(adapter, "cpu")
    set_peft_model_state_dict(adapted, {**own, **{name: given[name] for name in given if ".lm_head." not in name}})
    return adapted


def train_last_layers(model: Any, layers: int, extra_modules: Sequence[str] = ()) -> nn.Module:
    """Freeze everything but the last decoder layers (or the first, if negative) and the named modules.

    If a tied LM head is named, it is untied first; the config records it, or loading would tie it again.

    Args:
        layers: number of trained layers at the end; -n for the first n.
        extra_modules: module names such as `lm_head`, `norm` or `embed_tokens`; a name selects every module whose path
            ends with it.

    Raises:
        ConfigError: more layers than there are, or a name that no module has.
    """
    stack = decoder_layers(model)
    if abs(layers) > len(stack):
        raise ConfigError(f"freeze_trainable_layers: {layers}, but the model has {len(stack)} decoder layers")
    if "lm_head" in extra_modules:
        untie_head(model)
    check_module_names(model, "freeze_extra_modules", [name for name in extra_modules if name != "lm_head"])
    model.requires_grad_(False)
    for layer in stack[len(stack) - layers :] if layers > 0 else stack[:-layers]:
        layer.requires_grad_(True)
    for name in extra_modules:
        named = [module for path, module in model.named_modules() if names_module(name, path)]
        own = [module for module in named if any(True for _ in module.parameters())]
        if name == "lm_head" and not own:
            own = [model.get_output_embeddings()]
        if not own:
            raise ConfigError(f"freeze_extra_modules: the model has no module named {name}")
        for module in own:
            module.requires_grad_(True)
    return model  # type: ignore[no-any-return]


def untie_head(model: Any) -> None:
    """Give the LM head its own copy of the embedding's weights."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is embedding.weight:
        head.weight = nn.Parameter(embedding.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder's stack of layers.

    Raises:
        ModelError: the model has no module list of that length.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(model).__name__}: its {count} decoder layers were not found")


def final_norm_trains(model: Any) -> bool:
    """Whether the norm between the last layer and the head trains."""
    decoder = model.get_decoder()
    last = [m for m in decoder.children() if "norm" in type(m).__name__.lower()]
    return any(p.requires_grad for m in last for p in m.parameters())


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; a tied one counts once."""
    parameters = list({id(p): p for p in model.parameters()}.values())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def upcast_trainable(model: nn.Module) -> None:
    """Convert trained weights to float32: small updates would be lost in bf16."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
