"""Answers of a model: batched, sorted by length, in the run's precision, each prompt sampled by a seed of its own."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

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


def sampling_seed(seed: int, *names: object) -> int:
    """A seed that depends on a run's seed and on what is sampled (a prompt, a step, a number), and on nothing else."""
    digest = hashlib.sha256("\0".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    stop_ids: Sequence[int],
    precision: Precision,
    batch_size: int = 32,
    seeds: Sequence[int] | None = None,
) -> list[list[int]]:
    """One answer per prompt, in the order of the prompts.

    Every answer is sampled by numbers of its own seed, so what is sampled for one prompt does not depend on which
    others are decoded beside it (but for rounding, which may differ with the width of the batch).

    Args:
        model: a causal LM, with or without the scoring forward, maybe under PEFT.
        prompts: token ids, each ending where the answer begins; for K answers a prompt is named K times.
        stop_ids: token ids that end an answer; the one that did is the answer's last.
        batch_size: prompts that are decoded at a time.
        seeds: one for each prompt; made of `decoding.seed` and the prompt's place where absent.

    Returns:
        The new token ids of each answer.
    """
    device = next(model.parameters()).device
    if seeds is None:
        seeds = [sampling_seed(decoding.seed, place) for place in range(len(prompts))]
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), stock_attention(model), precision.context(device):
            for start in range(0, len(order), batch_size):
                chunk = order[start : start + batch_size]
                draw = Draw([seeds[i] for i in chunk], decoding) if decoding.temperature else None
                decoded = _decode(model, [prompts[i] for i in chunk], decoding, list(stop_ids), device, draw)
                for i, ids in zip(chunk, decoded):
                    answers[i] = ids
    finally:
        model.train(was_training)
    return answers


class Draw:
    """Samples the next token of each row by inverting the cumulative distribution at the row's own uniform number.

    A logits processor: it leaves the drawn token's score finite and all others −∞, so that greedy decoding takes it.
    """

    def __init__(self, seeds: Sequence[int], decoding: Decoding) -> None:
        self._temperature = decoding.temperature
        self._top_p = decoding.top_p
        self._uniform = torch.stack(
            [
                torch.rand(decoding.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
                for seed in seeds
            ]
        )
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores [rows, vocabulary]."""
        del input_ids
        uniform = self._uniform[:, self._step, None].to(scores.device)
        self._step += 1
        tokens = draw_tokens(scores / self._temperature, uniform, self._top_p)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """The token of each row at which the cumulative probability passes `uniform`, int64 [rows, 1].

    Args:
        scores: logits [rows, vocabulary].
        uniform: float64 [rows, 1] in [0, 1).
        top_p: only the likeliest tokens, as many as it takes to reach this probability.
    """
    probabilities = torch.softmax(scores.double(), dim=-1)
    if top_p >= 1.0:
        return _invert(probabilities, uniform)
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return tokens.gather(-1, _invert(ordered.masked_fill(outside, 0.0), uniform))


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = probabilities.cumsum(-1)
    place = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return place.clamp_(max=probabilities.shape[-1] - 1)


def _decode(
    model: Any,
    prompts: list[Sequence[int]],
    decoding: Decoding,
    stop_ids: list[int],
    device: torch.device,
    draw: Draw | None,
) -> list[list[int]]:
    width = max(len(prompt) for prompt in prompts)
    pad = stop_ids[0] if stop_ids else 0
    # Left padding: all answers begin in the same column.
    input_ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    output = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=mask.to(device),
        generation_config=_plain_config(decoding, stop_ids, pad),
        logits_processor=LogitsProcessorList([draw] if draw else []),
    )
    return [_until_stop(row.tolist(), stop_ids) for row in output[:, width:]]


def _plain_config(decoding: Decoding, stop_ids: list[int], pad: int) -> GenerationConfig:
    """Greedy over what `Draw` leaves; whatever a model's own generation_config.json would add is switched off here.

    With a repetition penalty or a top-k that came with the model, answers would not be samples of its distribution.
    """
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,  # transformers' own default, which says that it is not used
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_new_tokens=0,
        eos_token_id=stop_ids or None,
        pad_token_id=pad,
        use_cache=True,
    )


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
