"""Rows that repeat or contradict an earlier row, by the hashes in the table of measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate.data.inspect.rows import LABELLED, PAIRS

Indices = npt.NDArray[np.int64]


def duplicates(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier row with the same prompt, answers and label; -1 if there is none."""
    same = ["kind", "prompt", "answer", "other"]
    return _first_earlier(frame, same, same)


def contradictions(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier pair that prefers the same two answers the other way round, or the first earlier
    completion that is the same with the other label; -1 if there is none."""
    found = np.full(len(frame), -1)
    pairs = (frame["kind"] == PAIRS) & (frame["answer"] != frame["other"])
    found[pairs] = _first_earlier(frame[pairs], ["prompt", "answer", "other"], ["prompt", "other", "answer"])
    labelled = frame["kind"] == LABELLED
    labels = frame[labelled]
    labels = labels.assign(opposite=1 - labels["other"])
    found[labelled] = _first_earlier(labels, ["prompt", "answer", "other"], ["prompt", "answer", "opposite"])
    return found


def inconsistencies(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier pair that rejects what this one chooses, or chooses what it rejects; or -1."""
    found = np.full(len(frame), -1)
    is_pair = frame["kind"] == PAIRS
    pairs = frame[is_pair]
    rejected = _first_earlier(pairs, ["prompt", "other"], ["prompt", "answer"])
    chosen = _first_earlier(pairs, ["prompt", "answer"], ["prompt", "other"])
    earlier, later = np.sort([rejected, chosen], axis=0)
    found[is_pair] = np.where(earlier < 0, later, earlier)
    return found


def crowded_prompts(frame: pd.DataFrame, more_than: int) -> list[tuple[int, int]]:
    """(first row, number of rows) of every prompt with more rows than this, in the order of the rows."""
    rows = pd.Series(np.arange(len(frame))).groupby(frame["prompt"].to_numpy(), sort=False)
    found = rows.agg(["min", "size"])
    return [(int(first), int(size)) for first, size in found[found["size"] > more_than].to_numpy()]


def _first_earlier(frame: pd.DataFrame, own: Sequence[str], wanted: Sequence[str]) -> Indices:
    """Per row the index of the first earlier row whose columns `own` equal this row's columns `wanted`; or -1."""
    index = frame.index.to_numpy()
    first = pd.Series(index).groupby([frame[name].to_numpy() for name in own], sort=False).min().reset_index()
    first.columns = [*wanted, "first"]
    found = frame[list(wanted)].merge(first, how="left", on=list(wanted))["first"].fillna(-1).to_numpy(np.int64)
    return np.where(found < index, found, -1)
