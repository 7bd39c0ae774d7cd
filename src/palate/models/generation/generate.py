"""Answers of a model: batched, sorted by length, in the run's precision, each prompt sampled by a seed of its own."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from palate.errors import DataError
from palate.models.generation.decode import Choose, Reader, StockReader, decode, linear_weights_in
from palate.models.generation.llama_step import step_decoder
from palate.models.precision import Precision
from palate.models.probe.limits import check_sequences
from palate.models.probe.probe import TREES
from palate.models.probe.rotary import length_rule
from palate.progress import progress

BATCH_SIZE = 32
"""Answers that are decoded at a time."""


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
    batch_size: int = BATCH_SIZE,
    seeds: Sequence[int] | None = None,
) -> list[list[int]]:
    """One answer per prompt, in the order of the prompts.

    Every answer is sampled by numbers of its own seed, so what is sampled for one prompt does not depend on which
    others are decoded beside it (but for rounding, which may differ with the width of the batch).

    Args:
        model: a causal LM, with or without the scoring forward, maybe under PEFT.
        prompts: token ids, at least one each, ending where the answer begins; for K answers a prompt is named K
            times, one after the other, and is then read once for all of them.
        stop_ids: token ids that end an answer; the one that did is the answer's last.
        batch_size: answers that are decoded at a time.
        seeds: one for each prompt; made of `decoding.seed` and the prompt's place where absent.

    Returns:
        The new token ids of each answer.

    Raises:
        DataError: a prompt is empty, or has more tokens or other ones than the model can read.
    """
    _refuse_empty(prompts)
    named = ((f"prompt {number} of {len(prompts)}", prompt) for number, prompt in enumerate(prompts, 1))
    check_sequences(model, named, new_tokens=decoding.max_new_tokens)
    if seeds is None:
        seeds = [sampling_seed(decoding.seed, place) for place in range(len(prompts))]
    answers: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    device = next(model.parameters()).device
    try:
        model.eval()
        answering = progress("answers", len(prompts), delay=5.0)
        with (
            torch.no_grad(),
            stock_attention(model),
            _reader(model, precision, batch_size) as reader,
            answering as made,
        ):
            equal = length_rule(_base(model).config) is not None
            for copies, places in _batches(prompts, batch_size, equal=equal):
                decoded = decode(
                    reader,
                    [prompts[i] for i in places[::copies]],
                    copies,
                    max_new_tokens=decoding.max_new_tokens,
                    stop_ids=stop_ids,
                    choose=_chooser(decoding, [seeds[i] for i in places], device),
                )
                for i, ids in zip(places, decoded, strict=True):
                    answers[i] = ids
                made.advance(len(places))
    finally:
        model.train(was_training)
    return answers


def _refuse_empty(prompts: Sequence[Sequence[int]]) -> None:
    """Nothing predicts a first token: what a batch has in that place is of another prompt, or padding."""
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise DataError(
                f"prompt {number} of {len(prompts)} has no tokens that an answer could follow; leave it out or begin "
                "it with the model's BOS token"
            )


@contextlib.contextmanager
def _reader(model: Any, precision: Precision, batch_size: int) -> Iterator[Reader]:
    """The fast reader where the model has one, else its own forward with weights in the run's precision."""
    fast = step_decoder(model, precision.autocast, batch_size)
    if fast is not None:
        yield fast
        return
    with linear_weights_in(model, precision.autocast), precision.context(next(model.parameters()).device):
        yield StockReader(model)


def _batches(
    prompts: Sequence[Sequence[int]], batch_size: int, *, equal: bool = False
) -> Iterator[tuple[int, list[int]]]:
    """(copies, places) of each batch: prompts of like length and equally many copies together, longest first.

    Args:
        equal: prompts of one length only, for models whose rotary positions depend on the length.
    """
    runs: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        if runs and prompts[runs[-1][0]] == prompt and len(runs[-1]) < batch_size:
            runs[-1].append(i)
        else:
            runs.append([i])
    runs.sort(key=lambda places: (-len(places), -len(prompts[places[0]])))
    current: list[list[int]] = []
    for run in runs:
        other = bool(current) and equal and len(prompts[run[0]]) != len(prompts[current[0][0]])
        if current and (other or len(run) != len(current[0]) or (len(current) + 1) * len(run) > batch_size):
            yield len(current[0]), [i for places in current for i in places]
            current = []
        current.append(run)
    if current:
        yield len(current[0]), [i for places in current for i in places]


def _chooser(decoding: Decoding, seeds: Sequence[int], device: torch.device) -> Choose:
    """Greedy, or by inverting the cumulative distribution at each row's own uniform number."""
    if not decoding.temperature:
        return _likeliest
    numbers = [
        torch.rand(decoding.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    uniform = torch.stack(numbers).to(device)

    def choose(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        return draw_tokens(logits / decoding.temperature, uniform[rows, step, None], decoding.top_p).squeeze(-1)

    return choose


def _likeliest(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
    del rows, step
    return logits.argmax(-1)


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """The token of each row at which the cumulative probability passes `uniform`, int64 [rows, 1].

    Args:
        scores: logits [rows, vocabulary].
        uniform: float64 [rows, 1] in [0, 1).
        top_p: only the likeliest tokens, as many as it takes to reach this probability.
    """
    probabilities = torch.softmax(scores.float(), dim=-1)
    if top_p >= 1.0:
        return _invert(probabilities, uniform)
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return tokens.gather(-1, _invert(ordered.masked_fill(outside, 0.0), uniform))


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """In two levels, so that no running sum over the whole vocabulary is formed: first the block, then the token."""
    rows, vocabulary = probabilities.shape
    width = math.isqrt(vocabulary) + 1
    blocks = F.pad(probabilities, (0, -vocabulary % width)).view(rows, -1, width)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = uniform * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[1] - 1)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows, device=block.device), block.squeeze(-1)].double().cumsum(-1)
    place = torch.searchsorted(inside, target - before, right=True).clamp_(max=width - 1)
    return (block * width + place).clamp_(max=vocabulary - 1)


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def stock_attention(model: Any) -> Iterator[None]:
    """Generation has no packed layout: give the model the attention that it came with inside the context."""
    base = _base(model)
    chosen = base.config._attn_implementation
    if chosen not in TREES:
        yield
        return
    try:
        base.set_attn_implementation(base.stock_attention)
        yield
    finally:
        base.set_attn_implementation(chosen)
