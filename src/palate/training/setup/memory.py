"""An estimate of a run's peak memory before it starts, and the token budget that fits.

Weights, gradients and optimiser states follow from the parameters. The activations that a forward pass saves for
backward depend on architecture, kernels and checkpointing, so they are measured: one real group is scored, and the
tensors that autograd saves are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from palate.capacity.memory import PLANNED_SHARE, state_bytes, token_budget
from palate.capacity.shapes import Counts
from palate.models.generation.local.generate import BATCH_SIZE
from palate.models.loading.shards import own_part
from palate.models.precision import Precision
from palate.text.batch import Batch
from palate.training.setup.environment import available_memory_bytes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of a run's peak.

    Attributes:
        base: in use when the plan is made: libraries, weights, reference, data.
        training: gradients, optimiser states and the weights that are cast once a step.
        per_token: activations of one token in a forward pass.
        trunk: maximum size of the trunk cache.
        tokens: budget of one forward pass.
        available: free memory of the device when the plan was made.
        answers: keys, values and logits while answers are sampled, for online stages.
    """

    base: int
    training: int
    per_token: int
    trunk: int
    tokens: int
    available: int
    answers: int = 0

    @property
    def peak(self) -> int:
        # Answers are sampled between steps, when no activations are in memory.
        return self.base + self.training + self.trunk + max(self.per_token * self.tokens, self.answers)

    def line(self) -> str:
        """For the terminal."""
        parts = (
            f"{_gb(self.base)} now, {_gb(self.training)} gradients, optimiser and casts, "
            f"{_gb(self.per_token * self.tokens)} activations of {self.tokens} tokens"
        )
        answers = f" or {_gb(self.answers)} to sample answers" if self.answers else ""
        trunk = f", {_gb(self.trunk)} trunk cache" if self.trunk else ""
        line = f"memory    about {_gb(self.peak)} at the peak: {parts}{answers}{trunk}"
        if self.peak - self.base > self.available:
            line += (
                f"; only {_gb(self.available)} are free: try gradient_checkpointing: true, finetuning_type: lora, or "
                "a smaller cutoff_len"
            )
        return line

    def to_json(self) -> dict[str, int]:
        planned = {name: size for name, size in asdict(self).items() if name != "available"}
        return {**planned, "peak": self.peak}


def plan_memory(
    model: nn.Module,
    batch: Batch,
    *,
    precision: Precision,
    optimiser: str,
    tokens: int | None,
    largest: int,
    trunk: int,
    device: torch.device,
    inputs: Mapping[str, Any] | None = None,
    answer_tokens: int = 0,
) -> MemoryPlan:
    """Estimate the peak, and choose the token budget if none is given.

    Args:
        model: the policy, ready to train.
        batch: a small real batch on the device, to measure activations with.
        optimiser: transformers' name.
        tokens: the budget of a forward pass; None chooses it by free memory.
        largest: most tokens in a DataLoader batch; a larger budget would never be used.
        trunk: bytes that the trunk cache will grow to.
        inputs: further arguments of a forward pass.
        answer_tokens: of the longest prompt with its sampled answer, for online stages; 0 if nothing is sampled.
    """
    trained = {id(p): p for p in model.parameters() if p.requires_grad}.values()
    count = sum(own_part(p).numel() for p in trained)
    casts = _cast_bytes(model, precision)
    training = round(4 * count + state_bytes(optimiser, Counts(linear=count))) + casts
    per_token = _per_token(model, batch, inputs or {}, precision, device)
    base, available = _held(device), _free(device)
    if tokens is None:
        free = PLANNED_SHARE * available - training - trunk
        tokens = token_budget(free, per_token, gpu=device.type == "cuda")
    answers = _answer_bytes(model, answer_tokens, precision) if answer_tokens else 0
    return MemoryPlan(base, training, per_token, trunk, min(tokens, max(largest, 1)), available, answers)


def _answer_bytes(model: Any, tokens: int, precision: Precision) -> int:
    """Keys, values and logits of a batch of answers of `tokens` tokens each, their prompts included."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = 4 if precision.autocast is None else 2
    cache = 2 * config.num_hidden_layers * heads * width * tokens * size
    logits = 3 * 4 * config.vocab_size  # with their probabilities and the sums that a token is drawn by
    return int(BATCH_SIZE * (cache + logits))


def _cast_bytes(model: nn.Module, precision: Precision) -> int:
    """Linear weights that are not yet in the autocast dtype are held in it for a step."""
    if precision.autocast is None:
        return 0
    weights = {id(m.weight): m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    return sum(2 * w.numel() for w in weights.values() if w.dtype != precision.autocast)


def _per_token(model: Any, batch: Batch, inputs: Mapping[str, Any], precision: Precision, device: torch.device) -> int:
    """Bytes per token that autograd saves for the backward pass."""
    own = {own_part(p).untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.UntypedStorage] = []  # until all are counted, no address is used twice

    def note(tensor: torch.Tensor) -> None:
        # Returns nothing to autograd: a node that saved its own output would be a cycle that Python's collector cannot
        # see, and the whole model would stay in memory with it.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            alive.append(storage)
            kept[storage.data_ptr()] = storage.nbytes()

    training = model.training
    model.train()
    try:
        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(note, _never),
            precision.context(device),
        ):
            scores = model(**batch.model_inputs(), **inputs)[0]
            del scores
    finally:
        model.train(training)
    weights = _linear_sizes(model)
    activations = [size for size in kept.values() if size not in weights]
    tokens = max(batch.input_ids.numel(), 1)
    return int(sum(activations) / tokens)


def _never(_: object) -> torch.Tensor:
    raise AssertionError("no backward pass follows the one that is measured")


def _linear_sizes(model: nn.Module) -> set[int]:
    """Storage sizes that a cast weight has: such a copy is saved for backward but is not an activation."""
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    # Ranks have equally many rows of a divided weight, the last ones of padding.
    ranks = dist.get_world_size() if any(isinstance(w, DTensor) for w in weights) else 1
    padded = {-(-len(w) // ranks) * ranks * w.shape[1:].numel() for w in weights}
    return {elements * width for elements in padded | {w.numel() for w in weights} for width in (2, 4)}


def largest_batch(lengths: npt.ArrayLike, groups: int) -> int:
    """Tokens of the `groups` longest groups together: no DataLoader batch has more."""
    return int(np.sort(np.asarray(lengths, dtype=np.int64))[::-1][:groups].sum())


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes()


def _gb(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
