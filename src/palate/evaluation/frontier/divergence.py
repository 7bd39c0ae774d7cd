"""Log-probabilities of sampled answers under two models, and the KL between the models on each answer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from palate.errors import ModelError
from palate.evaluation.subject import Subject
from palate.models.generation.local.generate import stock_attention
from palate.models.scoring.divergence import token_divergence
from palate.progress import progress
from palate.text.batch import Batch, score_completions
from palate.text.groups import EncodedGroup


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """One answer under two models, in nats.

    Attributes:
        logp: Σ log π over the answer's tokens, including the end token.
        ref_logp: the same under the reference.
        kl: Σ over its positions of KL(π(·|prefix) ‖ π_ref(·|prefix)), each over the full vocabulary.
    """

    logp: float
    ref_logp: float
    kl: float


def score_answers(policy: Subject, reference: Subject, groups: Sequence[EncodedGroup]) -> list[list[AnswerScore]]:
    """The scores of each group's completions, in order; both models run once on each batch.

    Raises:
        ModelError: the vocabularies differ in size, or a score is not finite.
    """
    packed = policy.packed and reference.packed

    def score(batch: Batch) -> list[AnswerScore]:
        columns = []
        for column in token_divergence(policy.model, reference.model, batch):  # float32 [M]
            sums = torch.zeros(batch.completions, dtype=torch.float64, device=batch.completion_of.device)
            columns.append(sums.index_add_(0, batch.completion_of, column.double()).tolist())
        return [AnswerScore(*row) for row in zip(*columns, strict=True)]

    scoring = progress(f"scoring answers of {policy.name}", len(groups), delay=1.0)
    attention = _common_attention(policy, reference, packed=packed)
    with torch.no_grad(), policy.precision.context(policy.device), attention, scoring as scored:
        found = score_completions(groups, score, packed=packed, device=policy.device, advance=scored.advance)
    for group, scores in zip(groups, found):
        for answer in scores:
            if not all(map(math.isfinite, (answer.logp, answer.ref_logp, answer.kl))):
                raise ModelError(
                    f"{policy.name}: the KL to {reference.name} is not finite on an answer to prompt {group.id}: "
                    "one of the two gives a token probability 0, or its weights are not finite"
                )
    return found


@contextlib.contextmanager
def _common_attention(policy: Subject, reference: Subject, *, packed: bool) -> Iterator[None]:
    """A context in which both models use stock attention, unless both support packed batches."""
    if packed:
        yield
        return
    with stock_attention(policy.model), stock_attention(reference.model):
        yield
