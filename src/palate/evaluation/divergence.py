"""Log-probabilities of sampled answers under two models, and the KL between the two along each answer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from palate.errors import ModelError
from palate.evaluation.subject import Subject
from palate.models.divergence import token_divergence
from palate.models.generation.generate import stock_attention
from palate.progress import progress
from palate.text.batch import pack, pad
from palate.text.groups import EncodedGroup
from palate.training.steps import micro_batches

_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """One answer under two models, in nats.

    Attributes:
        logp: Σ log π over the answer's tokens, the one that ends it included.
        ref_logp: the same under the reference.
        kl: Σ over its positions of KL(π(·|prefix) ‖ π_ref(·|prefix)), each over the whole vocabulary.
    """

    logp: float
    ref_logp: float
    kl: float


def score_answers(policy: Subject, reference: Subject, groups: Sequence[EncodedGroup]) -> list[list[AnswerScore]]:
    """Per group the scores of its completions, in order; both models read each batch once.

    Raises:
        ModelError: the vocabularies differ in size, or something that is no number came out.
    """
    packed = policy.packed and reference.packed
    found: dict[int, list[AnswerScore]] = {}
    scoring = progress(f"scoring answers of {policy.name}", len(groups), delay=1.0)
    readable = _readable(policy, reference, packed=packed)
    with torch.no_grad(), policy.precision.context(policy.device), readable, scoring as scored:
        for batch in micro_batches(groups, _TOKENS, pack if packed else pad, packed=packed):
            moved = batch.to(policy.device)
            columns = []
            for column in token_divergence(policy.model, reference.model, moved):
                sums = torch.zeros(moved.completions, dtype=torch.float64, device=moved.completion_of.device)
                columns.append(sums.index_add_(0, moved.completion_of, column.double()).tolist())
            scores = iter([AnswerScore(*row) for row in zip(*columns, strict=True)])
            for group in batch.groups:
                found[id(group)] = [next(scores) for _ in group.completions]
            scored.advance(len(batch.groups))
    for group in groups:
        for score in found[id(group)]:
            if not all(map(math.isfinite, (score.logp, score.ref_logp, score.kl))):
                raise ModelError(
                    f"{policy.name}: the KL to {reference.name} is not finite on an answer to prompt {group.id}: "
                    "one of the two gives a token no probability at all, or its weights are not finite"
                )
    return [found[id(group)] for group in groups]


@contextlib.contextmanager
def _readable(policy: Subject, reference: Subject, *, packed: bool) -> Iterator[None]:
    """Where one of the two reads padded batches only, the other has its own attention back as well."""
    if packed:
        yield
        return
    with stock_attention(policy.model), stock_attention(reference.model):
        yield
