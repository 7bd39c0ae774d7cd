"""Module names: checking those in a config, linear layers, and the routers of a mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from palate.errors import ConfigError

_SHOWN = 20
_EXPERTS = ("w1", "w2", "w3", "gate_proj", "up_proj", "down_proj")


def names_module(name: str, path: str) -> bool:
    """Whether the name is a module's path or the end of it."""
    return path == name or path.endswith(f".{name}")


def check_module_names(model: nn.Module, key: str, names: Sequence[str], *, linear: bool = False) -> None:
    """Raise ConfigError for names that no module has, with the existing ones, or only those of linear layers."""
    paths = [path for path, _ in model.named_modules(remove_duplicate=False) if path]
    # PEFT finds fused experts by their names in checkpoints.
    if any(path.endswith("experts.gate_up_proj") for path, _ in model.named_parameters()):
        paths += _EXPERTS
    unknown = [name for name in names if not any(names_module(name, path) for path in paths)]
    if not unknown:
        return
    found = linear_names(model) if linear else sorted({_last(path) for path in paths if not _last(path).isdigit()})
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    kind = "linear layers" if linear else "modules"
    raise ConfigError(
        f"{key}: the model has no module named {', '.join(unknown)}; its {kind} are {', '.join(found[:_SHOWN])}{more}"
    )


def linear_names(model: nn.Module) -> list[str]:
    """The last parts of the linear layers' names, without the LM head and routers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    routers = set(router_names(model))
    return sorted(
        {
            _last(path)
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head and path not in routers
        }
    )


def router_names(model: nn.Module) -> list[str]:
    """Paths of modules that choose a token's experts: gates beside `experts`, routers, layers of gating classes."""
    found: list[str] = []
    for path, module in model.named_modules():
        kind, children = type(module).__name__.lower(), dict(module.named_children())
        if "router" in kind and any(True for _ in module.parameters(recurse=False)):
            found.append(path)
        if "topkgating" in kind:  # GraniteMoE's in older transformers, JetMoE's
            found += [f"{path}.{name}" for name in children]
        if "experts" in children:
            found += [f"{path}.{name}" for name in children if "gate" in name or "router" in name]
    return sorted(set(found))


def lora_notice(model: nn.Module) -> str:
    """Notice on the modules that LoRA adapts in a mixture of experts, and those that it does not."""
    adapted = {path.partition(".lora_A")[0] for path, _ in model.named_parameters() if ".lora_A." in path}
    # A gating class's only layer is called `layer`.
    routers = sorted({_last(path.removesuffix(".layer")) for path in router_names(model)})
    frozen = "" if any("experts" in path.split(".") for path in adapted) else " and the experts"
    return (
        f"lora_target: all adapts {', '.join(sorted({_last(path) for path in adapted}))}; the routers "
        f"({', '.join(routers)}){frozen} are left as they are"
    )


def _last(path: str) -> str:
    return path.rpartition(".")[2]
