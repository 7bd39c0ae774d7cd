"""Answers of a model: batched, sorted by length, in the run's precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palate.models.attention import TREE
from palate.models.precision import Precision


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: longest answer.
        temperature: 0 takes the likeliest token; 1 samples from the model's own distribution.
        top_p: nucleus of the distribution that is sampled from.
        seed: of the sampling.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    stop_ids: Sequence[int],
    precision: Precision,
    batch_size: int = 32,
) -> list[list[int]]:
    """One answer per prompt, in the order of the prompts.

    Args:
        model: a causal LM, with or without the scoring forward, maybe under PEFT.
        prompts: token ids, each ending where the answer begins.
        stop_ids: token ids that end an answer; the one that did is the answer's last.
        batch_size: prompts that are decoded at a time.

    Returns:
        The new token ids of each answer.
    """
    device = next(model.parameters()).device
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), stock_attention(model), precision.context(device), torch.random.fork_rng():
            torch.manual_seed(decoding.seed)
            for start in range(0, len(order), batch_size):
                chunk = order[start : start + batch_size]
                decoded = _decode(model, [prompts[i] for i in chunk], decoding, list(stop_ids), device)
                for i, ids in zip(chunk, decoded):
                    answers[i] = ids
    finally:
        model.train(was_training)
    return answers


def _decode(
    model: Any, prompts: list[Sequence[int]], decoding: Decoding, stop_ids: list[int], device: torch.device
) -> list[list[int]]:
    width = max(len(prompt) for prompt in prompts)
    pad = stop_ids[0] if stop_ids else 0
    # Left padding: all answers begin in the same column.
    input_ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.temperature else {}
    output = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=decoding.max_new_tokens,
        do_sample=bool(decoding.temperature),
        eos_token_id=stop_ids or None,
        pad_token_id=pad,
        use_cache=True,
        **sampling,
    )
    return [_until_stop(row.tolist(), stop_ids) for row in output[:, width:]]


def _until_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in stop_ids:
            return ids[: position + 1]
    return ids


@contextlib.contextmanager
def stock_attention(model: Any) -> Iterator[None]:
    """Generation has no packed layout: give the architecture its own attention back inside the context."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config._attn_implementation != TREE:
        yield
        return
    base.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        base.set_attn_implementation(TREE)
