"""Generation: batched, sorted by length, in the run's precision, with a separate seed for each answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from palate.errors import DataError
from palate.models.attention.kernels import TREES
from palate.models.attention.rotary import length_rule
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.decode import Choose, Reader, decode, linear_weights_in
from palate.models.generation.local.llama_decoder import step_decoder
from palate.models.generation.local.sampling import draw_tokens, uniform_numbers
from palate.models.generation.local.transformers_decoder import StockReader
from palate.models.precision import Precision
from palate.models.probe.limits import check_sequences
from palate.models.upstream import base_of
from palate.progress import progress

BATCH_SIZE = 32
"""Answers decoded at a time."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    stop_ids: Sequence[int],
    precision: Precision,
    batch_size: int = BATCH_SIZE,
    seeds: Sequence[int] | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """One answer per prompt, in the order of the prompts.

    Every answer has its own random numbers, so it does not depend on the other answers in its batch (except for
    rounding, which may differ with the size of the batch).

    Args:
        model: a causal LM, with or without the scoring forward, possibly under PEFT.
        prompts: token ids, at least one each, up to the start of the answer. For K answers repeat a prompt K times in
            succession; it is prefilled only once.
        stop_ids: token ids that end an answer and are included in it.
        batch_size: answers decoded at a time.
        seeds: one for each prompt; by default derived from `decoding.seed` and the prompt's index.
        on_token: called with the prompt's index and the token of each new token; what it raises ends the generation.

    Returns:
        The new token ids of each answer.

    Raises:
        DataError: a prompt is empty, too long, or has token ids outside the model's vocabulary.
    """
    refuse_empty(prompts)
    named = ((f"prompt {number} of {len(prompts)}", prompt) for number, prompt in enumerate(prompts, 1))
    check_sequences(model, named, new_tokens=decoding.max_new_tokens)
    if seeds is None:
        seeds = [sampling_seed(decoding.seed, index) for index in range(len(prompts))]
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
            equal = length_rule(base_of(model).config) is not None
            for copies, indices in _batches(prompts, batch_size, equal=equal):
                decoded = decode(
                    reader,
                    [prompts[i] for i in indices[::copies]],
                    copies,
                    max_new_tokens=decoding.max_new_tokens,
                    stop_ids=stop_ids,
                    choose=_chooser(decoding, [seeds[i] for i in indices], device),
                    on_token=None if on_token is None else _numbered(on_token, indices),
                )
                for i, ids in zip(indices, decoded, strict=True):
                    answers[i] = ids
                made.advance(len(indices))
    finally:
        model.train(was_training)
    return answers


def _numbered(on_token: Callable[[int, int], None], indices: Sequence[int]) -> Callable[[int, int], None]:
    """The same callback for a batch, whose rows are these prompts."""
    return lambda row, token: on_token(indices[row], token)


def refuse_empty(prompts: Sequence[Sequence[int]]) -> None:
    """Raise DataError for an empty prompt: no logits predict the first token of its answer."""
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise DataError(
                f"prompt {number} of {len(prompts)} has no tokens that an answer could follow; leave it out or begin "
                "it with the model's BOS token"
            )


@contextlib.contextmanager
def _reader(model: Any, precision: Precision, batch_size: int) -> Iterator[Reader]:
    """A context with the CPU decoder if it supports the model, else with the model's own forward.

    The model's own forward runs with weights in the run's precision.
    """
    fast = step_decoder(model, precision.autocast, batch_size)
    if fast is not None:
        yield fast
        return
    with linear_weights_in(model, precision.autocast), precision.context(next(model.parameters()).device):
        yield StockReader(model)


def _batches(
    prompts: Sequence[Sequence[int]], batch_size: int, *, equal: bool = False
) -> Iterator[tuple[int, list[int]]]:
    """Copies and prompt indices of each batch: similar lengths and equal numbers of copies together, longest first.

    Args:
        equal: only prompts of equal length share a batch, because rotary positions depend on the length.
    """
    runs: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        if runs and prompts[runs[-1][0]] == prompt and len(runs[-1]) < batch_size:
            runs[-1].append(i)
        else:
            runs.append([i])
    runs.sort(key=lambda indices: (-len(indices), -len(prompts[indices[0]])))
    current: list[list[int]] = []
    for run in runs:
        differs = bool(current) and equal and len(prompts[run[0]]) != len(prompts[current[0][0]])
        if current and (differs or len(run) != len(current[0]) or (len(current) + 1) * len(run) > batch_size):
            yield len(current[0]), [i for indices in current for i in indices]
            current = []
        current.append(run)
    if current:
        yield len(current[0]), [i for indices in current for i in indices]


def _chooser(decoding: Decoding, seeds: Sequence[int], device: torch.device) -> Choose:
    """The function that picks the next tokens: greedy, or sampled with one uniform random number per row and step."""
    if not decoding.temperature:
        return lambda logits, *_: logits.argmax(-1)
    uniform = torch.stack([uniform_numbers(decoding, seed) for seed in seeds]).to(device)

    def choose(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        return draw_tokens(logits / decoding.temperature, uniform[rows, step, None], decoding.top_p).squeeze(-1)

    return choose


@contextlib.contextmanager
def stock_attention(model: Any) -> Iterator[None]:
    """A context in which the model has its original attention, because tree attention needs a packed layout."""
    base = base_of(model)
    chosen = base.config._attn_implementation
    if chosen not in TREES:
        yield
        return
    try:
        base.set_attn_implementation(base.stock_attention)
        yield
    finally:
        base.set_attn_implementation(chosen)
