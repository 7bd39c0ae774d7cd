"""Logs of Inspect AI: `.eval` (a zip with header.json and samples/*.json) and `.json` (one object with `samples`).

A sample has id, epoch, input, and for each scorer a score whose value is "C", "P", "I" or "N" (1, ½, 0, 0 as in
Inspect's `value_to_float`), a yes/no text, a number, or a mapping of these.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import read_json
from palate.errors import DataError
from palate.evaluation.logs.items import ItemCollector, ItemValues, content_hash

# Inspect compresses with Zstandard, which the standard library's zipfile reads from Python 3.14 on.
if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError, zipfile

_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZIP_CONVERT = "convert it with `inspect log convert --to json`"


def is_inspect(content: Any) -> bool:
    """Whether a JSON value is a log of Inspect."""
    return isinstance(content, Mapping) and isinstance(content.get("eval"), Mapping) and "status" in content


def read_inspect(path: Path) -> ItemValues:
    """The values of a log, with the mean over epochs for each sample. The metrics are `scorer` or `scorer/key`.

    Samples that failed have no score and count as items without a value.

    Raises:
        DataError: the log is damaged, was written without samples, or has no score that is a number.
    """
    if zipfile.is_zipfile(path):
        header, samples = _read_zip(path)
    else:
        header = read_json(path)
        samples = header.get("samples") or []
    if not isinstance(samples, list) or not samples:
        raise DataError(f"{path}: the log has no samples; run Inspect with --log-samples")
    about = header["eval"]
    notes = []
    if header.get("status") != "success":
        status = header.get("status", "unfinished")
        notes.append(f"the evaluation has status {status}: the log may hold a part of the samples")
    if failed := sum(1 for sample in samples if isinstance(sample, Mapping) and sample.get("error")):
        notes.append(f"{failed} of {len(samples)} samples failed and have no value")
    collector = ItemCollector(str(path))
    measured = [_values(sample, path) for sample in samples]
    metrics = list(dict.fromkeys(metric for values in measured for metric in values))
    refused = set()
    for sample, given in zip(samples, measured, strict=True):
        values = {metric: to_number(given.get(metric)) for metric in metrics}
        refused |= {metric for metric, value in values.items() if value is None and given.get(metric) is not None}
        collector.add(str(sample["id"]), content_hash(_content(sample.get("input"))), values)
    notes += [f"{metric} has values that are no numbers; they count as missing" for metric in sorted(refused)]
    return collector.items(f"{about.get('model', path.stem)}, {about.get('task', 'task')}", tuple(notes))


def to_number(value: Any) -> float | None:
    """A score's value as a number; None if it has none."""
    if isinstance(value, str):
        if (word := _WORDS.get(value, _WORDS.get(value.lower()))) is not None:
            return word
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, bool | int | float) and math.isfinite(value) else None


def _read_zip(path: Path) -> tuple[Mapping[str, Any], list[Any]]:
    """Header and samples of an `.eval` file; a running evaluation has its start only."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = list(dict.fromkeys(archive.namelist()))  # of two members with one name the last one is read
            start = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
            if start is None:
                raise DataError(f"{path}: a zip file without header.json: not a log of Inspect")
            header = json.loads(archive.read(start))
            samples = [
                json.loads(archive.read(name))
                for name in names
                if name.startswith("samples/") and name.endswith(".json")
            ]
    except NotImplementedError as error:  # what zipfile raises for a compression that it does not know
        raise DataError(
            f"{path}: compressed in a way that this Python cannot read ({error}); {_ZIP_CONVERT}"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ZstdError, EOFError, ValueError, OSError) as error:
        raise DataError(f"{path}: the log is damaged ({error}); {_ZIP_CONVERT}, or run it again") from error
    if not isinstance(header, Mapping) or not isinstance(header.get("eval"), Mapping):
        raise DataError(f"{path}: {start} has no eval: not a log of Inspect")
    return header, samples


def _values(sample: Any, path: Path) -> dict[str, Any]:
    """The values of a sample by metric: `scorer`, or `scorer/key` where it gives a mapping; empty if it failed."""
    if not isinstance(sample, Mapping) or "id" not in sample:
        raise DataError(f"{path}: a sample has no id; the log is damaged")
    scores = sample.get("scores") or {}
    if not isinstance(scores, Mapping) or not all(isinstance(score, Mapping) for score in scores.values()):
        raise DataError(f"{path}: sample {sample['id']} has no scores by scorer; convert the log with a newer Inspect")
    found: dict[str, Any] = {}
    for scorer, score in scores.items():
        value = score.get("value")
        if isinstance(value, Mapping):
            found |= {f"{scorer}/{key}": part for key, part in value.items()}
        elif value is not None:
            found[scorer] = value
    return found


def _content(given: Any) -> Any:
    """An input as text, or as role and content of its messages: their ids differ between runs."""
    if not isinstance(given, list):
        return given
    return [
        [message.get("role"), _without_ids(message.get("content"))] if isinstance(message, Mapping) else message
        for message in given
    ]


def _without_ids(content: Any) -> Any:
    if isinstance(content, list):
        return [
            {key: value for key, value in part.items() if key in ("type", "text", "image", "audio", "video")}
            if isinstance(part, Mapping)
            else part
            for part in content
        ]
    return content
