"""Generation: batched, sorted by length, in the run's precision, with a separate seed for each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from palate.errors import DataError
from palate.models.attention.rotary import length_rule
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.decode import Choose, decode, draw_tokens, prepared_decoder, uniform_numbers
from palate.models.generation.local.llama_decoder import llama_decoder_of
from palate.models.generation.local.transformers_decoder import TransformersDecoder
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
    device = next(model.parameters()).device
    prepared = prepared_decoder(model, precision, batch_size, llama_decoder_of, TransformersDecoder)
    answering = progress("answers", len(prompts), delay=5.0)
    with torch.no_grad(), prepared as decoder, precision.context(device), answering as made:
        equal = length_rule(base_of(model).config) is not None
        for copies, indices in _batches(prompts, batch_size, equal=equal):
            decoded = decode(
                decoder,
                [prompts[i] for i in indices[::copies]],
                copies,
                max_new_tokens=decoding.max_new_tokens,
                stop_ids=stop_ids,
                choose=_chooser(decoding, [seeds[i] for i in indices], device),
                on_token=_numbered(on_token, indices),
            )
            for i, ids in zip(indices, decoded, strict=True):
                answers[i] = ids
            made.advance(len(indices))
    return answers


def _numbered(on_token: Callable[[int, int], None] | None, indices: Sequence[int]) -> Callable[[int, int], None] | None:
    """The same callback for a batch, whose rows are these prompts."""
    return on_token and (lambda row, token: on_token(indices[row], token))


def refuse_empty(prompts: Sequence[Sequence[int]]) -> None:
    """Raise DataError for an empty prompt: no logits predict the first token of its answer."""
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise DataError(
                f"prompt {number} of {len(prompts)} has no tokens that an answer could follow; leave it out or begin "
                "it with the model's BOS token"
            )


def _batches(prompts: Sequence[Sequence[int]], batch_size: int, *, equal: bool) -> Iterator[tuple[int, list[int]]]:
    """Copies and prompt indices of each batch: similar lengths and equal numbers of copies together, longest first.

    With `equal` only prompts of equal length share a batch, because rotary positions depend on the length.
    """
    runs: list[list[int]] = []
    for _, equal_prompts in groupby(range(len(prompts)), lambda i: prompts[i]):
        run = list(equal_prompts)
        runs += [run[start : start + batch_size] for start in range(0, len(run), batch_size)]
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

    def choose(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        return draw_tokens(logits / decoding.temperature, uniform[rows, step, None], decoding.top_p).squeeze(-1)

    return choose
