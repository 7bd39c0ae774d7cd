"""Floating-point operations that a step needs: no more than the mathematics asks for, counted exactly.

A product of [a, b] with [b, c] counts 2·a·b·c. Attention counts only the keys that a query may see, the head only
tokens that are trained, padding nothing; a backward pass counts twice its forward. Norms, activations, the softmax and
the optimiser are not counted: the peak that this is held against is one of matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from palate.models.tuning.trainable import decoder_layers
from palate.text.groups import EncodedGroup


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations by part.

    Attributes:
        trunk: the decoder layers' linear maps.
        attention: scores and weighted values.
        head: logits of trained tokens.
    """

    trunk: int = 0
    attention: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        return self.trunk + self.attention + self.head

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.trunk + other.trunk, self.attention + other.attention, self.head + other.head)

    def __mul__(self, factor: float) -> Flops:
        return Flops(*(round(part * factor) for part in (self.trunk, self.attention, self.head)))


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model the count depends on.

    Attributes:
        linear: weights of the decoder layers' linear maps, together.
        attention: per visible pair of query and key: 4 · width · heads, over all layers.
        head: weights of the head, vocabulary · width.
        layers: number of decoder layers.
    """

    linear: int
    attention: int
    head: int
    layers: int


def shape_of(model: Any) -> Shape:
    """The shape of a causal LM of Llama's kind, unwrapped."""
    config = model.config.get_text_config()
    layers = decoder_layers(model)
    linear = sum(m.weight.numel() for layer in layers for m in layer.modules() if isinstance(m, nn.Linear))
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4 * width * config.num_attention_heads * len(layers)
    return Shape(linear, attention, model.get_output_embeddings().weight.numel(), len(layers))


def forward_flops(shape: Shape, groups: Iterable[EncodedGroup]) -> Flops:
    """One forward pass over the groups, each prompt once."""
    total = Flops()
    for group in groups:
        trained = sum(int(completion.trained.sum()) for completion in group.completions)
        total += Flops(
            2 * shape.linear * group.packed_tokens, shape.attention * visible_keys(group), 2 * shape.head * trained
        )
    return total


def training_flops(shape: Shape, groups: Iterable[EncodedGroup]) -> Flops:
    """Forward and backward of full fine-tuning: gradients of inputs and of weights cost a forward each."""
    return forward_flops(shape, groups) * 3


def visible_keys(group: EncodedGroup) -> int:
    """Pairs of a query and a key that it sees: its past in the prompt, and in an answer both prompt and past."""
    prompt = len(group.prompt_ids)
    pairs = prompt * (prompt + 1) // 2
    for completion in group.completions:
        n = len(completion.ids)
        pairs += n * prompt + n * (n + 1) // 2
    return pairs
