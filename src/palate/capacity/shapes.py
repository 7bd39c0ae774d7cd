"""Sizes of a model, from its config.json or by a size name; weights are never read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from palate.errors import ModelError


class Counts(NamedTuple):
    """Numbers of parameters: linear maps of the decoder layers, an untied LM head, the embedding, all others."""

    linear: int = 0
    head: int = 0
    embedding: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a causal LM memory and time depend on.

    Attributes:
        model_type: of config.json.
        hidden, intermediate: width of the residual stream, and of the MLP or of one expert.
        gated: the MLP has three maps (gate, up, down), else two.
        experts, experts_per_token: of a layer; 0 and 1 without experts.
        bf16_weights: the weights are bf16 numbers, so bf16 holds frozen ones without loss.
        max_positions: tokens that the model was trained for.
    """

    name: str
    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 1
    bf16_weights: bool = True
    max_positions: int | None = None

    @property
    def maps(self) -> list[tuple[int, int, int]]:
        """(inputs, outputs, number) of the linear maps of one layer: q; k and v; o; into the MLP; out of it."""
        d, f = self.hidden, self.intermediate
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [(d, queries, 1), (d, keys, 2), (queries, d, 1), (d, f, 2 if self.gated else 1), (f, d, 1)]

    @property
    def counts(self) -> Counts:
        """All parameters; biases are left out. Experts are no linear maps: their weights are one tensor a layer."""
        attention, mlp = self._weights
        places = (self.max_positions or 0) * self.hidden if self.model_type in ("gpt2", "opt") else 0
        other = (2 * self.layers + 1) * self.hidden + places + self.layers * self.experts * mlp
        linear = attention + (self.hidden * self.experts if self.experts else mlp)
        return Counts(linear * self.layers, 0 if self.tied else self.embedding_size, self.embedding_size, other)

    @property
    def embedding_size(self) -> int:
        """Parameters of the embedding, or of the head."""
        return self.vocabulary * self.hidden

    @property
    def active_weights(self) -> int:
        """Weights of all layers' maps that one token multiplies; of experts only the active ones."""
        attention, mlp = self._weights
        return self.layers * (attention + mlp * self.experts_per_token + self.hidden * self.experts)

    @property
    def _weights(self) -> tuple[int, int]:
        """Weights of one layer's attention, and of its MLP or one of its experts."""
        sizes = [rows * columns * number for rows, columns, number in self.maps]
        return sum(sizes[:3]), sum(sizes[3:])


def _llama(name: str, layers: int, hidden: int, inner: int, heads: int, *, tied: bool = False) -> ModelShape:
    return ModelShape(
        name, "llama", layers, hidden, inner, heads, 8, hidden // heads, 128_256, tied, max_positions=131_072
    )


_SMOLLM2 = ("smollm2-135m-instruct", "llama", 30, 576, 1536, 9, 3, 64, 49_152, True)
SIZES: Mapping[str, ModelShape] = MappingProxyType(
    {
        # Llama 3.2 1B and 3B, Llama 3.1 8B and 70B (2407.21783, table 3), and the built-in model (2502.02737).
        "1b": _llama("1B", 16, 2048, 8192, 32, tied=True),
        "3b": _llama("3B", 28, 3072, 8192, 24, tied=True),
        "8b": _llama("8B", 32, 4096, 14_336, 32),
        "70b": _llama("70B", 80, 8192, 28_672, 64),
        "smollm2-135m-instruct": ModelShape(*_SMOLLM2, max_positions=8192),
    }
)
"""Shapes that need no files."""

_UNGATED = ("gpt2", "opt", "phi", "gpt_neox", "gptj", "bloom", "falcon", "starcoder2")
# Field → its names in config.json.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
    "intermediate": ("intermediate_size", "n_inner"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "experts_per_token": ("num_experts_per_tok",),
    "max_positions": ("max_position_embeddings", "n_positions"),
}


def read_shape(name: str, revision: str | None = None) -> ModelShape:
    """The shape of a size name (`8B`), a model folder, or a hub id, whose config.json comes from the hub or its cache.

    Raises:
        ModelError: there is no config.json, or it lacks a size.
    """
    if name.lower() in SIZES:
        return SIZES[name.lower()]
    try:
        path = Path(name) / "config.json"
        if name.count("/") == 1 and not path.parent.is_dir():
            from huggingface_hub import hf_hub_download  # takes half a second

            path = Path(hf_hub_download(name, "config.json", revision=revision))
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        sizes = ", ".join(shape.name for shape in SIZES.values())
        raise ModelError(
            f"{name}: its config.json cannot be read ({first}); name a model folder, a hub id, or a size: {sizes}"
        ) from error
    return shape_of(config if isinstance(config, dict) else {}, name)


def shape_of(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape that a config.json describes; a model of text and images counts as its language model.

    Raises:
        ModelError: a size is missing, or is not a whole number.
    """
    inside = config.get("text_config")
    text: dict[str, Any] = {**config, **(inside if isinstance(inside, dict) else {})}
    if text.get("moe_intermediate_size"):
        text["intermediate_size"] = text["moe_intermediate_size"]
    given = {field: [text[one] for one in names if text.get(one) is not None] for field, names in _NAMES.items()}
    found = {field: values[0] for field, values in given.items() if values}
    for field, names in _NAMES.items():
        value = found.get(field, 0 if field in ("layers", "hidden", "vocabulary") else 1)
        if type(value) is not int or value < (field != "experts"):
            raise ModelError(f"{name}: config.json has no whole number above 0 as {' or '.join(names)}")
    found.setdefault("intermediate", 4 * found["hidden"])
    found.setdefault("heads", max(1, found["hidden"] // 64))  # a state-space model has none
    found.setdefault("kv_heads", found["heads"])
    found.setdefault("head_dim", found["hidden"] // found["heads"])
    if not found.get("experts"):
        found |= {"experts": 0, "experts_per_token": 1}
    kind, dtype = str(text.get("model_type")), str(text.get("dtype") or text.get("torch_dtype"))
    tied = bool(text.get("tie_word_embeddings", True))  # the default of transformers
    return ModelShape(name, kind, tied=tied, gated=kind not in _UNGATED, bf16_weights=dtype == "bfloat16", **found)
