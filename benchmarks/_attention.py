"""Whether each form of attention on packed rows gives the losses and gradients of padded rows, on small models.

`eager_varlen` is the variable-length call written out: on a CPU it takes the kernel's place, so that everything but the
kernel itself runs there.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import flex_attention
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.attention import tree, varlen
from palate.models.attention.kernels import kernels_of
from palate.models.attention.varlen import VARLEN, VarlenIndex
from palate.models.scoring.forward import install
from palate.models.scoring.head import head_of
from palate.models.scoring.logps import per_completion
from palate.text.batch import Batch, pack, pad
from palate.text.groups import EncodedCompletion, EncodedGroup

VOCABULARY = 211
WINDOW = 7


@dataclass(frozen=True, slots=True)
class Case:
    """A small model and the shape of its rows.

    Attributes:
        heads, key_heads, width: of the attention.
        window: tokens that a query sees; None for all.
        completions: of each prompt.
        checkpointing: compute activations again in the backward pass.
    """

    heads: int
    key_heads: int
    width: int
    window: int | None
    completions: int
    checkpointing: bool = False

    def __str__(self) -> str:
        window = f", window {self.window}" if self.window else ""
        again = ", checkpointing" if self.checkpointing else ""
        return f"{self.heads}/{self.key_heads} heads of {self.width}{window}, K = {self.completions}{again}"


ALL = [
    Case(heads, key_heads, width, window, completions, completions == 2)
    for (heads, key_heads), width, window, completions in itertools.product(
        ((9, 3), (4, 1), (1, 1)), (64, 128), (None, WINDOW), (1, 2, 8)
    )
]

# Each value of each property with each of another one at least once; a compiled kernel takes seconds for each case.
SOME = [
    Case(9, 3, 64, None, 2, True),
    Case(9, 3, 128, WINDOW, 8),
    Case(4, 1, 64, WINDOW, 1),
    Case(4, 1, 128, None, 8, True),
    Case(1, 1, 64, None, 8),
    Case(1, 1, 128, WINDOW, 2, True),
    Case(9, 3, 64, WINDOW, 1),
    Case(4, 1, 64, None, 2),
]


def eager_varlen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, index: VarlenIndex, scale: float, window: int | None
) -> torch.Tensor:
    """[T, H, d] by a loop over segments, each with a mask that is aligned to the lower right."""
    repeat = q.shape[1] // k.shape[1]
    outputs = []
    queries, keys = index.query_ends.tolist(), index.key_ends.tolist()
    for (q0, q1), (k0, k1) in zip(itertools.pairwise(queries), itertools.pairwise(keys), strict=True):
        own, seen = q[q0:q1].transpose(0, 1), k[k0:k1].transpose(0, 1).repeat_interleave(repeat, 0)
        last = torch.arange(q1 - q0, device=q.device)[:, None] + (k1 - k0) - (q1 - q0)
        at = torch.arange(k1 - k0, device=q.device)[None, :]
        hidden = (at > last) if window is None else (at > last) | (at <= last - window)
        scores = (own @ seen.transpose(1, 2) * scale).masked_fill(hidden, float("-inf"))
        outputs.append((scores.softmax(-1) @ v[k0:k1].transpose(0, 1).repeat_interleave(repeat, 0)).transpose(0, 1))
    return torch.cat(outputs)


@contextlib.contextmanager
def eager_kernel() -> Iterator[None]:
    """Inside, the variable-length kernel is `eager_varlen`."""
    with mock.patch.object(varlen, "varlen_kernel", lambda: ("eager", eager_varlen)):
        yield


@contextlib.contextmanager
def spans_only() -> Iterator[None]:
    """Inside, `attention: tree` computes each span by SDPA, as on a GPU, also on a CPU."""

    with mock.patch.object(tree, "_BLOCKS_ON", ()):
        yield


@contextlib.contextmanager
def flex_backward() -> Iterator[None]:
    """Inside, FlexAttention has a backward pass on a CPU: its definition, which PyTorch keeps behind a check."""
    check = mock.patch.object(flex_attention, "_validate_device", lambda *_: None)
    with check, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        yield


def small_model(case: Case, device: torch.device, dtype: torch.dtype) -> Any:
    """A random model of two layers, with weights so large that its outputs differ from token to token."""
    config = AutoConfig.for_model(
        "mistral",
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=case.heads,
        num_key_value_heads=case.key_heads,
        head_dim=case.width,
        sliding_window=case.window,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.15)
    install(model, head_of(model))
    model.to(device).train()
    if case.checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it is called activation checkpointing since 5.23
            model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def random_groups(completions: int, seed: int = 0) -> list[EncodedGroup]:
    """Three prompts, one shorter than the window and one longer, with completions of different lengths."""
    random = np.random.default_rng(seed)

    def ids(count: int) -> np.ndarray:
        return random.integers(3, VOCABULARY, count).astype(np.int32)

    def completion(count: int) -> EncodedCompletion:
        return EncodedCompletion(ids(count), np.ones(count, dtype=bool))

    return [
        EncodedGroup(f"row:{n}", ids(n), tuple(completion(int(random.integers(2, 15))) for _ in range(completions)))
        for n in (3, 12, 21)
    ]


def loss_and_gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss of all completions, and the gradient of all weights as one vector."""
    model.zero_grad()
    sums = per_completion(model(**batch.model_inputs()), batch).sums
    weights = 1.0 + torch.arange(len(sums), device=sums.device) * 0.618 % 1.0
    loss = -(F.logsigmoid(0.1 * sums) * weights).mean()
    loss.backward()
    gradient = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
    return loss.detach(), gradient


def compare(case: Case, kernel: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Loss and gradients of packed rows by a kernel, relative to those of padded rows in float32 (or float64).

    Args:
        case: model and rows.
        kernel: a registered name.
        dtype: bfloat16 computes both under autocast, and `padded` is the error that padded rows have then.
    """
    groups = random_groups(case.completions)
    half = dtype in (torch.bfloat16, torch.float16)
    model = small_model(case, device, torch.float32 if half else dtype)
    model.set_attn_implementation("sdpa")
    loss, gradient = loss_and_gradients(model, pad(groups).to(device))
    with torch.autocast(device.type, dtype=dtype, enabled=half):
        rounded = loss_and_gradients(model, pad(groups).to(device)) if half else (loss, gradient)
        model.set_attn_implementation(kernel)
        ours = loss_and_gradients(model, pack(groups).to(device))

    def errors(found: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
        return float((found[0] - loss).abs() / loss.abs()), float((found[1] - gradient).norm() / gradient.norm())

    (ours_loss, ours_gradient), (rounded_loss, rounded_gradient) = errors(ours), errors(rounded)
    limit = 2e-5 if not half else max(2 * rounded_gradient, 0.02)
    return {
        "case": str(case),
        "kernel": kernel,
        "dtype": str(dtype).removeprefix("torch."),
        "loss": ours_loss,
        "gradient": ours_gradient,
        "padded_loss": rounded_loss,
        "padded_gradient": rounded_gradient,
        "equal": ours_gradient <= limit and ours_loss <= max(limit, 2 * rounded_loss),
    }


def equality(device: torch.device, cases: Sequence[Case], *, left: Callable[[], float]) -> list[dict[str, Any]]:
    """All kernels on all cases, in float32 and bfloat16 as far as they compute it.

    Args:
        left: seconds that are left; cases that do not fit are missing in the answer.
    """
    found = []
    on_cpu = device.type == "cpu"
    kernels = kernels_of("auto", torch.device("cuda"))
    replaced = (eager_kernel(), spans_only(), flex_backward()) if on_cpu else ()
    with contextlib.ExitStack() as stack:
        for one in replaced:
            stack.enter_context(one)
        for case, kernel, dtype in itertools.product(cases, kernels, (torch.float32, torch.bfloat16)):
            if kernel == VARLEN and dtype == torch.float32 and not on_cpu:
                continue  # these kernels compute in half precision only
            if left() <= 0:
                break
            try:
                found.append(compare(case, kernel, device, dtype))
            # A kernel that fails is a line of the table, and no end of the benchmark.
            except Exception as error:
                failed = {"case": str(case), "kernel": kernel, "dtype": str(dtype).removeprefix("torch.")}
                found.append({**failed, "equal": False, "error": f"{type(error).__name__}: {str(error)[:200]}"})
    return found


__all__ = ["ALL", "SOME", "Case", "compare", "eager_kernel", "eager_varlen", "equality", "flex_backward", "spans_only"]
