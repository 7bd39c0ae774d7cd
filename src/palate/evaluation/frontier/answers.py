"""Sampled answers of a frontier: their log-probabilities under two models, the KL of each, and where they are kept."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from palate.artifacts import json_hash, read_json, write_json
from palate.errors import ArtifactError, ModelError
from palate.evaluation.subject import Subject, answer_group
from palate.models.attention.kernels import original_attention
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
    with torch.no_grad(), policy.precision.context(policy.device), contextlib.ExitStack() as stack, scoring as scored:
        for subject in () if packed else (policy, reference):  # one of them does not support packed batches
            stack.enter_context(original_attention(subject.model))
        found = score_completions(groups, score, packed=packed, device=policy.device, advance=scored.advance)
    for group, scores in zip(groups, found):
        for answer in scores:
            if not all(map(math.isfinite, (answer.logp, answer.ref_logp, answer.kl))):
                raise ModelError(
                    f"{policy.name}: the KL to {reference.name} is not finite on an answer to prompt {group.id}: "
                    "one of the two gives a token probability 0, or its weights are not finite"
                )
    return found


class KeptAnswers:
    """A folder with a file for each measured point; after an interruption it is read instead of sampling again.

    The file name is a hash of the point's weights and of everything that determines its answers and scores, so another
    model, reference, prompt, seed, length or precision does not find it. Rewards are not kept; they are computed again.

    Args:
        settings: everything but the point's weights that determines the answers and scores.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = dict(settings)

    def _path(self, identity: str) -> Path:
        return self._folder / f"{json_hash({**self._settings, 'identity': identity})[:32]}.json"

    def read(
        self, identity: str | None, prompts: Sequence[Sequence[int]]
    ) -> tuple[list[EncodedGroup], list[AnswerScore]] | None:
        """The answers of a point to the prompts (token ids), and their scores; None if they are not kept."""
        if identity is None or not self._path(identity).is_file():
            return None
        try:
            rows = read_json(self._path(identity))
        except ArtifactError:  # a damaged file: the point is measured again
            return None
        groups = [
            answer_group(index, prompt, *(one["ids"] for one in answers))
            for index, (prompt, answers) in enumerate(zip(prompts, rows, strict=True))
        ]
        return groups, [AnswerScore(*one["score"].values()) for answers in rows for one in answers]

    def write(self, identity: str | None, groups: Sequence[EncodedGroup], scores: Sequence[AnswerScore]) -> None:
        """Keeps the answers of a point, by group, and their scores in the same order."""
        if identity is None:
            return
        each = iter(scores)
        rows = [
            [{"ids": one.ids.tolist(), "score": asdict(next(each))} for one in group.completions] for group in groups
        ]
        write_json(self._path(identity), rows, indent=None)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
