"""Labelled pairs as candidates and votes of people: a JSON list of prompts with two answers and a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import read_json
from palate.errors import DataError
from palate.feedback.candidates import Candidates
from palate.feedback.votes import Outcome, Vote
from palate.records import Answer, Message

_PROMPTS = ("input", "instruction", "prompt")
_OUTCOMES: dict[Any, Outcome] = {1: "left", 2: "right", 0: "tie", "1": "left", "2": "right", "tie": "tie"}


def read_labelled_pairs(path: str | Path) -> tuple[list[Candidates], list[Vote]]:
    """Read a file such as LLMBar's (2310.07641): `[{"input": …, "output_1": …, "output_2": …, "label": 1}, …]`.

    `input` may be called `instruction` or `prompt`. `label` is 1 or 2, the better output, or 0 or "tie". Each label
    becomes the vote of one person with the name `label`. Nothing is known about which output people saw first;
    output_1 counts as shown first.

    Raises:
        ArtifactError: the file is missing or not JSON.
        DataError: it is not such a list; names the entry.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: has no list of labelled pairs; each needs input, output_1, output_2 and label")
    found = [
        labelled_pair(row, f"{Path(path).name}:{number}", f"{path}, entry {number}")
        for number, row in enumerate(rows, 1)
    ]
    return [row for row, _ in found], [vote for _, vote in found]


def labelled_pair(row: Any, name: str, where: str) -> tuple[Candidates, Vote]:
    """One entry of such a file.

    Raises:
        DataError: a text or the label is missing or of another kind.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {type(row).__name__}")
    prompt = next((row[key] for key in _PROMPTS if isinstance(row.get(key), str)), None)
    if prompt is None:
        raise DataError(f"{where}: has no text named {' or '.join(_PROMPTS)}")
    answers = []
    for key in ("output_1", "output_2"):
        if not isinstance(row.get(key), str):
            raise DataError(f"{where}: has no text named {key}")
        answers.append(Answer(row[key], "stop"))
    label = row.get("label")
    if isinstance(label, bool) or not isinstance(label, int | str) or label not in _OUTCOMES:
        raise DataError(f'{where}: the label {label!r} is none of 1, 2, 0 and "tie"')
    vote = Vote(name, 0, 1, _OUTCOMES[label], "label", "", "left_first", kind="person")
    return Candidates(name, (Message("user", prompt),), tuple(answers)), vote
