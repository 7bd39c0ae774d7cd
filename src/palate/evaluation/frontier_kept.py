"""Answers that a frontier has sampled and scored, kept on disk point by point until the whole of it is measured."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from palate.artifacts import read_json, write_json
from palate.errors import ArtifactError
from palate.evaluation.divergence import AnswerScore
from palate.text.groups import EncodedCompletion, EncodedGroup


class KeptAnswers:
    """A folder with a file for each point that is measured; an interrupted command reads them instead of sampling anew.

    A file belongs to the weights of the point and to everything that decides its answers and their scores, so another
    model, reference, prompt, seed, length or precision never finds it. Rewards are not kept: they are computed anew.

    Args:
        folder: made when the first point is kept.
        settings: what the answers depend on besides the point's weights.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = dict(settings)

    def _path(self, identity: str) -> Path:
        return self._folder / f"{_digest({**self._settings, 'identity': identity})}.json"

    def read(
        self, identity: str | None, prompts: Sequence[Sequence[int]]
    ) -> tuple[list[EncodedGroup], list[AnswerScore]] | None:
        """The answers of a point to the prompts, given as token ids, and their scores; None where none are kept."""
        if identity is None or not self._path(identity).is_file():
            return None
        try:
            rows = read_json(self._path(identity))
        except ArtifactError:  # written by a disk that failed: it is measured again
            return None
        groups = [
            EncodedGroup(
                str(place), np.array(prompt, dtype=np.int32), tuple(_completion(one["ids"]) for one in answers)
            )
            for place, (prompt, answers) in enumerate(zip(prompts, rows, strict=True))
        ]
        return groups, [AnswerScore(*one["score"].values()) for answers in rows for one in answers]

    def write(self, identity: str | None, groups: Sequence[EncodedGroup], scores: Sequence[AnswerScore]) -> None:
        """Keep a point's answers, group by group, and their scores in the same order."""
        if identity is None:
            return
        each = iter(scores)
        rows = [
            [{"ids": one.ids.tolist(), "score": asdict(next(each))} for one in group.completions] for group in groups
        ]
        write_json(self._path(identity), rows, indent=None)

    def remove(self) -> None:
        """The frontier is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _completion(ids: Sequence[int]) -> EncodedCompletion:
    return EncodedCompletion(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_))
