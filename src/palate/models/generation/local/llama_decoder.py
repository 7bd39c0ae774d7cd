"""Decoding with a Llama-like model on a CPU, without calling transformers' modules.

A decoding step has few rows, so most of its time is spent on reading weights and calling operations. Maps with the same
input are one product, on weights in oneDNN's layout (`models.cpu.prepacked`), and the samples of a prompt share its
keys and values. The residual stream, norms, rotations and attention are float32.

A model is recognised by its parts (`models.cpu.llama_like`) and then tested: the decoder is used only if it gives the
model's own logits on random tokens, after the prompt and after one step. The model itself is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from palate.models.attention.cpu import Segment, tree_forward
from palate.models.cpu import kernels
from palate.models.cpu.layers import projections
from palate.models.cpu.llama_like import recognised
from palate.models.cpu.prepacked import PackedLinear, decoding_dtype
from palate.models.cpu.projection import projection_of
from palate.models.cpu.sublayers import rms_eps
from palate.models.generation.local.prompt_cache import LayerCache, Slots
from palate.models.upstream import CALL_ERRORS, base_of

_TOLERANCE = 1e-4
# Maximum size of the second copy of the weights, in oneDNN's layout.
COPIED_BYTES = 2 << 30
# Maximum number of prompt tokens in one prefill pass.
_PREFILL_TOKENS = 4096


class _Norm(NamedTuple):
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [T, d] from [T, d]."""
        return kernels.rms_norm(x, kernels.rms_scale(x, self.eps), self.weight, torch.float32)


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach().float(), rms_eps(module) or 0.0)


class _Layer:
    """One decoder layer: its maps and norms, and the keys and values of the current batch."""

    def __init__(self, layer: Any, dtype: torch.dtype, *, copy: bool, rows: int) -> None:
        found = projections(layer)
        assert found is not None  # checked by `recognised`
        attention, mlp = found
        packed_linear = partial(PackedLinear, dtype=dtype, copy=copy, rows=rows)
        self.qkv, self.out = packed_linear(attention[:3]), packed_linear(attention[3:])
        self.gate_up, self.down = packed_linear(mlp[:2]), packed_linear(mlp[2:])
        self.norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self.scaling: float = layer.self_attn.scaling
        self.width: int = layer.self_attn.head_dim
        self.heads, self.key_heads = (len(part.weight) // self.width for part in attention[:2])
        self.cache = LayerCache(self.heads, self.key_heads, self.width, self.scaling)

    def rotated(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 q [T, H, d] and k [T, Hkv, d], rotated, and v [T, Hkv, d], from x [T, width] and cos, sin [T, d]."""
        heads = self.qkv(self.norms[0](x)).float().view(len(x), -1, self.width)
        plain = heads[:, : self.heads + self.key_heads]
        half = self.width // 2
        both = plain * cos[:, None]  # q and k are rotated together
        both[..., :half].addcmul_(plain[..., half:], sin[:, None, :half], value=-1)
        both[..., half:].addcmul_(plain[..., :half], sin[:, None, half:])
        return both[:, : self.heads], both[:, self.heads :], heads[:, self.heads + self.key_heads :]

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream [T, width] after the layer, from x [T, width] and the attention output [T, H · d]."""
        x = x + self.out(attended)
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, dim=-1)
        return x + self.down(kernels.swiglu(gate, up))


class LlamaDecoder:
    """A `decode.BatchDecoder` with a copy of the model's current weights; reusable for several batches.

    Args:
        model: a causal LM that `recognised` accepts.
        dtype, copy, rows: as for `PackedLinear`.
    """

    def __init__(self, model: Any, dtype: torch.dtype, *, copy: bool, rows: int) -> None:
        base = base_of(model)
        decoder = base.model
        self._embedding = decoder.embed_tokens.weight
        self._rotary = decoder.rotary_emb
        self.layers = [_Layer(layer, dtype, copy=copy, rows=rows) for layer in decoder.layers]
        self._norm = _norm(decoder.norm)
        head = projection_of(base.lm_head)
        assert head is not None  # checked by `recognised`
        self._head = PackedLinear([head], dtype, copy=copy, rows=rows)
        self._slots = Slots(0, 1)
        self._positions = torch.zeros(0, dtype=torch.long)

    def prefill(self, prompts: Sequence[Sequence[int]], copies: int) -> Tensor:
        """See BatchDecoder."""
        with torch.autocast("cpu", enabled=False):
            self._slots = Slots(len(prompts), copies)
            self._positions = torch.tensor([len(prompt) for prompt in prompts]).repeat_interleave(copies)
            longest = max(map(len, prompts))
            for layer in self.layers:
                layer.cache.begin(self._slots, [len(prompt) for prompt in prompts], longest)
            last = [self._read(prompts, chunk) for chunk in _chunks(prompts)]
            return self.logits(torch.cat(last)).repeat_interleave(copies, 0)

    def keep(self, kept: Tensor) -> bool:
        """See BatchDecoder."""
        self._positions = self._positions[kept]
        moved, prompts = self._slots.keep(kept)
        for layer in self.layers:
            layer.cache.keep(moved, prompts)
        return True

    def step(self, tokens: Tensor) -> Tensor:
        """See BatchDecoder."""
        with torch.autocast("cpu", enabled=False):
            x = self.embedded(tokens)
            cos, sin = self.angles(self._positions)
            for layer in self.layers:
                q, k, v = layer.rotated(x, cos, sin)
                x = layer.finish(x, layer.cache.attend(q, k, v, self._slots))
            self._positions = self._positions + 1
            return self.logits(x)

    def _read(self, prompts: Sequence[Sequence[int]], chunk: range) -> Tensor:
        """Prefill a chunk of prompts: hidden states [prompts, width] at their last tokens; fills the caches."""
        lengths = [len(prompts[i]) for i in chunk]
        ends = torch.tensor(lengths).cumsum(0)
        parts = [Segment(int(end) - n, int(end), (int(end) - n,) * 2) for n, end in zip(lengths, ends, strict=True)]
        x = self.embedded(torch.tensor([token for i in chunk for token in prompts[i]]))
        cos, sin = self.angles(torch.cat([torch.arange(n) for n in lengths]))
        for layer in self.layers:
            q, k, v = (part.transpose(0, 1).contiguous() for part in layer.rotated(x, cos, sin))
            for i, part in zip(chunk, parts, strict=True):
                layer.cache.read(i, k[:, part.start : part.end], v[:, part.start : part.end])
            attended, _ = tree_forward(q, k, v, parts, layer.scaling, keep=False)
            x = layer.finish(x, attended.flatten(1))
        return x[ends - 1]

    def embedded(self, tokens: Tensor) -> Tensor:
        """The residual stream float32 [T, width] before the first layer, of tokens [T]."""
        return F.embedding(tokens, self._embedding).float()

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [T, d] at positions [T], from the model's own rotary module."""
        cos, sin = self._rotary(torch.empty(0), positions[None])
        return cos[0], sin[0]

    def logits(self, x: Tensor) -> Tensor:
        """Float32 [T, V] of the residual stream [T, width] after the last layer."""
        return self._head(self._norm(x)).float()


def llama_decoder_of(model: Any, autocast: torch.dtype | None, rows: int) -> LlamaDecoder | None:
    """A decoder with the model's current weights, or None if the model's own forward must be used.

    Gradient must be off, and the model, possibly under PEFT, in eval mode with an attention that takes a mask; `rows`
    answers are decoded at a time.
    """
    if not recognised(model):
        return None
    parameters = list(base_of(model).parameters())
    size = sum(p.numel() for p in parameters)
    # The test runs in float32: weights of another dtype, or with adapters, must be copied for it.
    derived = base_of(model) is not model or any(p.dtype != torch.float32 for p in parameters)
    if derived and size * torch.float32.itemsize > COPIED_BYTES:
        return None
    dtype = decoding_dtype(autocast, parameters[0].dtype)
    copy = size * dtype.itemsize <= COPIED_BYTES
    if not copy and dtype != torch.float32:
        return None
    plain = LlamaDecoder(model, torch.float32, copy=False, rows=rows)
    if not _matches_model(plain, model, autocast):
        return None
    del plain
    return LlamaDecoder(model, dtype, copy=copy, rows=rows)


def _matches_model(decoder: LlamaDecoder, model: Any, autocast: torch.dtype | None) -> bool:
    """Whether the decoder's logits after two random prompts, and after one more token, equal the model's own."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = base_of(model).model.embed_tokens.num_embeddings
    ids = torch.randint(vocabulary, (2, 8), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp_(min=0)
    dtypes = {p.dtype for p in base_of(model).parameters()}
    # accelerate wraps a trained model's forward in autocast, whose rounding would hide differences.
    own = getattr(model, "_original_forward", model)
    # Weights of several dtypes can be multiplied only under autocast.
    mixed = autocast is not None and len(dtypes) > 1
    try:
        with torch.autocast("cpu", dtype=autocast, enabled=mixed):
            whole = own(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
            ours = decoder.prefill([ids[0, :-1].tolist(), ids[1, 3:-1].tolist()], 1), decoder.step(ids[:, -1])
    except CALL_ERRORS:  # the model's forward takes other arguments, so it must be used for decoding
        return False
    tolerance = (_TOLERANCE if dtypes == {torch.float32} else 0.05) * float(whole.abs().max())
    return all(
        found.shape == original.shape and bool((found - original).abs().max() <= tolerance)
        for found, original in zip(ours, (whole[:, -2].float(), whole[:, -1].float()), strict=True)
    )


def _chunks(prompts: Sequence[Sequence[int]]) -> Iterable[range]:
    """Ranges of consecutive prompts of at most _PREFILL_TOKENS tokens in total, at least one prompt each."""
    start, tokens = 0, 0
    for i, prompt in enumerate(prompts):
        if i > start and tokens + len(prompt) > _PREFILL_TOKENS:
            yield range(start, i)
            start, tokens = i, 0
        tokens += len(prompt)
    yield range(start, len(prompts))
