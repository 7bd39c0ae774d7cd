"""Outcomes that were computed before, on disk, so that the same call computes none of them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.artifacts import JsonlWriter, json_hash, read_jsonl
from palate.errors import ArtifactError
from palate.evaluation.benchmarks.benchmark import Outcome


class KeptOutcomes:
    """A file with one line for each batch of items.

    A line is found by the hash of all that determines its outcomes: the model's weights, the precision, the decoding
    and the tokens of every item of the batch. Another model, prompt, template or batch does not find it. A batch is
    kept whole, because the rounding of a score may depend on the rows beside it.

    Args:
        path: the file; None keeps outcomes in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, list[Outcome]] = {}
        if path is not None and path.is_file():
            for row in read_jsonl(path):
                try:
                    self._found[row["key"]] = [
                        Outcome(tuple(one["scores"]), tuple(one["tokens"]), one["text"], one["ended"])
                        for one in row["outcomes"]
                    ]
                except (KeyError, TypeError) as error:
                    raise ArtifactError(f"{path}: is no file of kept scores; name another --output") from error

    def read(self, key: str) -> list[Outcome] | None:
        """The outcomes of a batch; None if they are not kept."""
        return self._found.get(key)

    def write(self, key: str, outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes of a batch; they survive a kill after this returns."""
        self._found[key] = list(outcomes)
        if self._path is not None:
            with JsonlWriter(self._path, sync=True) as file:
                rows = [
                    {"scores": one.scores, "tokens": one.tokens, "text": one.text, "ended": one.ended}
                    for one in outcomes
                ]
                file.write({"key": key, "outcomes": rows})


def batch_key(settings: Mapping[str, Any], contents: Sequence[str]) -> str:
    """The hash of a batch: of its settings and of the content of each item."""
    return json_hash({"settings": dict(settings), "contents": list(contents)})
