"""Sampled and scored answers of a frontier, kept on disk until all points are measured."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate.artifacts import read_json, write_json
from palate.errors import ArtifactError
from palate.evaluation.frontier.divergence import AnswerScore
from palate.evaluation.subject import answer_group
from palate.text.groups import EncodedGroup


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
        settings = json.dumps({**self._settings, "identity": identity}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(settings.encode()).hexdigest()[:32]}.json"

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
