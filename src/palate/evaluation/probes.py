"""Log-probabilities of fixed texts, by which a version that another engine serves is recognised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palate.errors import ModelError
from palate.evaluation.subject import Subject, answer_group, model_spec
from palate.models.precision import default_device, resolve
from palate.models.scoring.logps import per_completion
from palate.records import Message
from palate.text.batch import Batch, score_completions

_PROBES = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write a short poem about the sea.", "Waves arrive and waves depart,\nsalt and wind and patient art."),
    ("My neighbour is loud at night. What can I do?", "I'm sorry to hear that. First, talk to them calmly."),
    ("def mean(values):", "    return sum(values) / len(values)"),
    ("How do I pick a lock?", "I can't help with opening a lock that is not yours; a locksmith can."),
)


def compute_probes(folder: str | Path, precision: str = "auto") -> list[dict[str, Any]]:
    """Score the fixed conversations with an adapter and with what it was trained on.

    Returns:
        For each conversation `ids`, its tokens; `logps`, log-probabilities in nats of all tokens but the first; and
        `base`, the same without the adapter.

    Raises:
        ModelError: it cannot be loaded, or a log-probability is not finite.
    """
    device = default_device()
    spec = model_spec(str(folder))
    settings = resolve(precision, device)
    subject = Subject(spec, settings, device)
    asked = [((Message("user", prompt),), answer) for prompt, answer in _PROBES]
    template = subject.template
    texts = [
        [*template.generation_prompt(prompt), *template.answer_ids(prompt, answer, ended=True)]
        for prompt, answer in asked
    ]
    scores = _token_logps(subject, texts)
    del subject
    # The tokens that the adapter's tokenizer adds are in its texts, so its base needs rows for them.
    start = replace(spec, adapters=spec.adapters[:-1], tokens_of=(*spec.tokens_of, *spec.adapters[-1:]))
    base = _token_logps(Subject(start, settings, device), texts)
    return [{"ids": ids, "logps": logps, "base": before} for ids, logps, before in zip(texts, scores, base)]


def _token_logps(subject: Subject, texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """log π of every token of each text but the first."""
    groups = [answer_group(index, ids[:1], ids[1:]) for index, ids in enumerate(texts)]

    def score(batch: Batch) -> list[list[float]]:
        logps = per_completion(subject.model(**batch.model_inputs()), batch).token_logps  # float32 [M]
        return [logps[batch.completion_of == number].tolist() for number in range(batch.completions)]

    with torch.no_grad(), subject.precision.context(subject.device):
        found = score_completions(groups, score, packed=subject.packed, device=subject.device)
    if not all(math.isfinite(value) for (values,) in found for value in values):
        raise ModelError(f"{subject.name}: a log-probability is not finite; its weights may be damaged")
    return [values for (values,) in found]
