"""Sample logs of EleutherAI's lm-evaluation-harness (`--log_samples`): a JSONL file for each task.

A line holds doc_id, doc, target, arguments, resps, filtered_resps, and a key for each metric (acc, acc_norm,
exact_match …); newer versions add filter, metrics (names of the metric keys), doc_hash, prompt_hash and target_hash.
A task with several filters has a line for each filter.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import iter_jsonl
from palate.errors import DataError
from palate.evaluation.logs.items import ItemCollector, ItemValues, content_hash

SAMPLES = "samples_*.jsonl"
"""Names of the files in a folder of results."""

_ITEM = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
_FIELDS = frozenset((*_ITEM, "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"))
_STAMP = re.compile(r"_\d{4}-\d{2}-\d{2}T[\d.\-:]+$")


def is_lm_eval(row: Any) -> bool:
    """Whether a line is a sample of lm-evaluation-harness."""
    return isinstance(row, Mapping) and "doc_id" in row and ("resps" in row or "doc_hash" in row)


def task_of(path: Path) -> str:
    """The task of `samples_TASK_TIME.jsonl`."""
    return _STAMP.sub("", path.stem.removeprefix("samples_"))


def read_lm_eval(path: Path) -> ItemValues:
    """The values of a sample log. The metrics are `acc` or, for a named filter, `exact_match,strict-match`.

    Metrics whose values are no numbers, such as the pairs of a perplexity, are left out and named in the notes.

    Raises:
        DataError: a line is no sample, or the log has no numbers.
    """
    collector = ItemCollector(str(path))
    refused: Counter[str] = Counter()
    for number, row in enumerate(iter_jsonl(path), 1):
        if not is_lm_eval(row):
            raise DataError(f"{path}:{number}: not a sample of lm-evaluation-harness (doc_id and resps are missing)")
        filter_name = row.get("filter", "none")
        suffix = "" if filter_name in ("none", None) else f",{filter_name}"
        values: dict[str, float | None] = {}
        for metric in _metrics(row, f"{path}:{number}"):
            value = row[metric]
            if value is None or isinstance(value, bool | int | float):
                # A metric that is not finite is as good as none; it is counted as missing.
                values[metric + suffix] = float(value) if value is not None and math.isfinite(value) else None
            else:
                refused[metric + suffix] += 1
        content = row.get("doc_hash") or content_hash(row.get("doc"))
        collector.add(str(row["doc_id"]), str(content), values)
    notes = tuple(f"{metric} is left out: its values are no numbers in {n} lines" for metric, n in refused.items())
    return collector.items(_model(path), notes)


def _metrics(row: Mapping[str, Any], where: str) -> list[str]:
    """The metric keys of a line: those that it names, in older versions all but the known fields.

    Raises:
        DataError: a metric that the line names is absent; an absent value is an error, not a 0.
    """
    if not isinstance(row.get("metrics"), list):
        return [key for key in row if key not in _FIELDS]
    if absent := [metric for metric in row["metrics"] if metric not in row]:
        raise DataError(f"{where}: metric {absent[0]} is named but has no value; the log is damaged")
    return [str(metric) for metric in row["metrics"]]


def _model(path: Path) -> str:
    """The harness writes the files of a model into a folder with its name."""
    return path.resolve().parent.name if path.name.startswith("samples_") else path.stem
