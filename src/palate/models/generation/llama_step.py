"""Reading prompts and writing tokens with a Llama-like model on a CPU, without transformers' modules in between.

A step of decoding has few rows, so what counts is how often weights are touched and how many operations are called:
maps that read the same input are one product, on weights that were laid out once (`models.cpu.prepacked`), and the
samples of a prompt share its keys and values. The residual stream, norms, rotations and attention are float32.

A model is recognised by its parts (`models.cpu.llama_like`) and then tried: it is used only if it gives the model's
own logits on random tokens, after the prompt and after a step. Nothing of the model is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from palate.models.attention.cpu import Segment, tree_forward
from palate.models.cpu import kernels
from palate.models.cpu.layers import ATTENTION, MLP, rms_eps
from palate.models.cpu.llama_like import base_of, recognised
from palate.models.cpu.prepacked import StepMap, step_dtype
from palate.models.cpu.projection import Projection, projection_of
from palate.models.generation.prompt_cache import LayerCache, Slots

_TOLERANCE = 1e-4
# Weights are held a second time, laid out anew, up to this many bytes.
COPIED_BYTES = 2 << 30
# Tokens of prompts that are read at a time.
_PREFILL_TOKENS = 4096


class _Norm(NamedTuple):
    weight: torch.Tensor
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return kernels.rms_norm(x, kernels.rms_scale(x, self.eps), self.weight, torch.float32)


class _Parts(NamedTuple):
    """What a layer is made of, as it is at the moment."""

    attention: tuple[Projection, ...]
    mlp: tuple[Projection, ...]
    norms: tuple[_Norm, _Norm]
    scaling: float
    head_dim: int


class _Layer:
    """One decoder layer: its maps, norms and, while a batch is decoded, its keys and values."""

    def __init__(self, parts: _Parts, dtype: torch.dtype, *, copy: bool, rows: int) -> None:
        ready = partial(StepMap, dtype=dtype, copy=copy, rows=rows)
        self.qkv = ready(parts.attention[:3])
        self.out = ready(parts.attention[3:])
        self.gate_up = ready(parts.mlp[:2])
        self.down = ready(parts.mlp[2:])
        self.norms = parts.norms
        self.scaling = parts.scaling
        self.width = parts.head_dim
        self.heads, self.key_heads = (len(part.weight) // parts.head_dim for part in parts.attention[:2])
        self.cache = LayerCache(self.heads, self.key_heads, self.width, self.scaling)

    def rotated(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(q [T, H, d], k [T, Hkv, d], v [T, Hkv, d]) float32 of the residual [T, width]."""
        heads = self.qkv(self.norms[0](x)).float().view(len(x), -1, self.width)
        plain = heads[:, : self.heads + self.key_heads]
        half = self.width // 2
        both = plain * cos[:, None]
        both[..., :half].addcmul_(plain[..., half:], sin[:, None, :half], value=-1)
        both[..., half:].addcmul_(plain[..., :half], sin[:, None, half:])
        return both[:, : self.heads], both[:, self.heads :], heads[:, self.heads + self.key_heads :]

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The residual after both halves, from attention's result [T, H · d]."""
        x = x + self.out(attended)
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, dim=-1)
        return x + self.down(kernels.swiglu(gate, up))


class StepDecoder:
    """A model ready to decode one batch after the other; holds a copy of its weights as they are now.

    Args:
        model: a causal LM that `recognised` accepts.
        dtype: of matrix products.
        copy: whether weights may be held a second time.
        rows: answers that are decoded at a time.
    """

    def __init__(self, model: Any, dtype: torch.dtype, *, copy: bool, rows: int) -> None:
        base = base_of(model)
        trunk = base.model
        self._embedding = trunk.embed_tokens.weight
        self._rotary = trunk.rotary_emb
        self._layers = [_Layer(_parts(layer), dtype, copy=copy, rows=rows) for layer in trunk.layers]
        self._norm = _norm(trunk.norm)
        head = projection_of(base.lm_head)
        assert head is not None  # `recognised` says so
        self._head = StepMap([head], dtype, copy=copy, rows=rows)
        self._slots = Slots(0, 1)
        self._places = torch.zeros(0, dtype=torch.long)

    def first(self, prompts: Sequence[Sequence[int]], copies: int) -> torch.Tensor:
        """Read the prompts; logits of the token after each, float32 [prompts · copies, V], copies side by side."""
        with torch.autocast("cpu", enabled=False):
            self._slots = Slots(len(prompts), copies)
            self._places = torch.tensor([len(prompt) for prompt in prompts]).repeat_interleave(copies)
            longest = max(map(len, prompts))
            for layer in self._layers:
                layer.cache.begin(self._slots, [len(prompt) for prompt in prompts], longest)
            last = [self._read(prompts, chunk) for chunk in _chunks(prompts)]
            return self._logits(torch.cat(last)).repeat_interleave(copies, 0)

    def keep(self, kept: torch.Tensor) -> bool:
        """Go on with these of the present rows only, int64 numbers."""
        self._places = self._places[kept]
        moved, prompts = self._slots.keep(kept)
        for layer in self._layers:
            layer.cache.keep(moved, prompts)
        return True

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits float32 [rows, V] after one more token for each row, int64 [rows]."""
        with torch.autocast("cpu", enabled=False):
            x = self._embedded(tokens)
            cos, sin = self._angles(self._places)
            for layer in self._layers:
                q, k, v = layer.rotated(x, cos, sin)
                x = layer.finish(x, layer.cache.attend(q, k, v, self._slots))
            self._places = self._places + 1
            return self._logits(x)

    def _read(self, prompts: Sequence[Sequence[int]], chunk: range) -> torch.Tensor:
        """Hidden states [prompts of the chunk, width] after the last token; keys and values go to the cache."""
        lengths = [len(prompts[i]) for i in chunk]
        ends = torch.tensor(lengths).cumsum(0)
        parts = [Segment(int(end) - n, int(end), (int(end) - n,) * 2) for n, end in zip(lengths, ends, strict=True)]
        x = self._embedded(torch.tensor([token for i in chunk for token in prompts[i]]))
        cos, sin = self._angles(torch.cat([torch.arange(n) for n in lengths]))
        for layer in self._layers:
            q, k, v = (part.transpose(0, 1).contiguous() for part in layer.rotated(x, cos, sin))
            for i, part in zip(chunk, parts, strict=True):
                layer.cache.read(i, k[:, part.start : part.end], v[:, part.start : part.end])
            attended, _ = tree_forward(q, k, v, parts, layer.scaling, keep=False)
            x = layer.finish(x, attended.flatten(1))
        return x[ends - 1]

    def _embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(tokens, self._embedding).float()

    def _angles(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [T, d] at these positions, by the model's own module."""
        cos, sin = self._rotary(torch.empty(0), places[None])
        return cos[0], sin[0]

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        return self._head(self._norm(x)).float()


def step_decoder(model: Any, autocast: torch.dtype | None, rows: int) -> StepDecoder | None:
    """A decoder of this model as it is now, or None where the model's own forward has to be called.

    Gradient must be off, the model in eval mode with an attention that takes a mask.

    Args:
        model: a causal LM, maybe under PEFT.
        autocast: dtype of the run's matrix products; None for float32.
        rows: answers that are decoded at a time.
    """
    if not recognised(model):
        return None
    parameters = list(base_of(model).parameters())
    size = sum(p.numel() for p in parameters)
    # The trial is in float32: of weights of another kind, and of weights with adapters, it holds a copy of its own.
    derived = base_of(model) is not model or any(p.dtype != torch.float32 for p in parameters)
    if derived and size * torch.float32.itemsize > COPIED_BYTES:
        return None
    dtype = step_dtype(autocast, parameters[0].dtype)
    copy = size * dtype.itemsize <= COPIED_BYTES
    if not copy and dtype != torch.float32:
        return None
    plain = StepDecoder(model, torch.float32, copy=False, rows=rows)
    if not _gives_the_models_logits(plain, model, autocast):
        return None
    del plain
    return StepDecoder(model, dtype, copy=copy, rows=rows)


def _parts(layer: Any) -> _Parts:
    attention, mlp = layer.self_attn, layer.mlp
    return _Parts(
        tuple(_projections(getattr(attention, name) for name in ATTENTION)),
        tuple(_projections(getattr(mlp, name) for name in MLP)),
        (_norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)),
        attention.scaling,
        attention.head_dim,
    )


def _projections(modules: Iterable[Any]) -> list[Projection]:
    return [part for part in map(projection_of, modules) if part is not None]


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach().float(), rms_eps(module) or 0.0)


def _gives_the_models_logits(decoder: StepDecoder, model: Any, autocast: torch.dtype | None) -> bool:
    """Two prompts of random tokens, read and gone on with, beside the model's own forward, in float32 where it can."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = base_of(model).model.embed_tokens.num_embeddings
    ids = torch.randint(vocabulary, (2, 8), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp_(min=0)
    dtypes = {p.dtype for p in base_of(model).parameters()}
    # accelerate wraps the forward of a model that trains in autocast, whose rounding would hide what is compared.
    own = getattr(model, "_original_forward", model)
    # Weights of several dtypes are multiplied under autocast only.
    mixed = autocast is not None and len(dtypes) > 1
    try:
        with torch.autocast("cpu", dtype=autocast, enabled=mixed):
            whole = own(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
            ours = decoder.first([ids[0, :-1].tolist(), ids[1, 3:-1].tolist()], 1), decoder.next(ids[:, -1])
    # A model of another make may refuse this call in any way it likes; it then decodes by its own forward.
    except Exception:
        return False
    tolerance = (_TOLERANCE if dtypes == {torch.float32} else 0.05) * float(whole.abs().max())
    return all(
        one.shape == stock.shape and bool((one - stock).abs().max() <= tolerance)
        for one, stock in zip(ours, (whole[:, -2].float(), whole[:, -1].float()), strict=True)
    )


def _chunks(prompts: Sequence[Sequence[int]]) -> Iterable[range]:
    """Consecutive prompts of no more than _PREFILL_TOKENS together, at least one each."""
    start, tokens = 0, 0
    for i, prompt in enumerate(prompts):
        if i > start and tokens + len(prompt) > _PREFILL_TOKENS:
            yield range(start, i)
            start, tokens = i, 0
        tokens += len(prompt)
    yield range(start, len(prompts))
