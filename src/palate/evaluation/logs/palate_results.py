"""Result files of `palate eval winrate` (winrate.json) and `palate eval bench` (bench-NAME.json), item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.errors import DataError
from palate.evaluation.logs.items import ItemValues, content_hash, number_or_none

_VERSION = 1


def is_win_rate(content: Any) -> bool:
    """Whether a JSON value is a win rate of palate."""
    return isinstance(content, Mapping) and content.get("kind") == "winrate" and isinstance(content.get("items"), list)


def is_benchmark(content: Any) -> bool:
    """Whether a JSON value is a benchmark result of palate."""
    return isinstance(content, Mapping) and "benchmark" in content and isinstance(content.get("models"), list)


def read_win_rate(content: Mapping[str, Any], where: str) -> ItemValues:
    """The score of A on each prompt: 1 win, ½ tie, 0 loss, None if it was not judged. Clusters are the prompts' groups.

    The metric names B, so that only win rates against the same side are compared.

    Raises:
        DataError: the file is of another version, or an item lacks its id or score.
    """
    check_version(content.get("version"), where)
    sides = [str(part(content.get(side), "name", f"{where}: side {side}")) for side in ("a", "b")]
    values: dict[str, float | None] = {}
    clusters: dict[str, str] = {}
    for row in content["items"]:
        item = str(part(row, "id", f"{where}: an item"))
        values[item] = number_or_none(part(row, "score", f"{where}: item {item}"), f"{where}: item {item}")
        if row.get("group"):
            clusters[item] = str(row["group"])
    return ItemValues(sides[0], {f"win rate against {sides[1]}": values}, {}, clusters)


def read_benchmark(content: Mapping[str, Any], where: str, model: str | None) -> ItemValues:
    """The scores of one model; items that were left out have no value. Metrics are `BENCHMARK/metric`.

    The hash of an item includes those of the data files, and the judge and the baseline of a judged benchmark, so that
    only results on the same data are compared.

    Args:
        model: name of the model; needed if the file has several.

    Raises:
        DataError: the file is of another version or damaged, or the model is not in it.
    """
    check_version(content.get("format"), where)
    models: Sequence[Mapping[str, Any]] = content["models"]
    names = [str(part(one, "name", f"{where}: a model")) for one in models]
    if model is None and len(names) == 1:
        model = names[0]
    if model not in names:
        which = "holds several models" if model is None else f"has no model {model}"
        raise DataError(f"{where}: {which}; name one of them: {', '.join(f'{where}@{name}' for name in names)}")
    chosen = models[names.index(model)]
    metrics: dict[str, dict[str, float | None]] = {}
    ids = []
    for row in part(chosen, "items", f"{where}: {model}"):
        item = str(part(row, "id", f"{where}: an item of {model}"))
        ids.append(item)
        for metric, value in part(row, "scores", f"{where}: item {item}").items():
            name = f"{content['benchmark']}/{metric}"
            metrics.setdefault(name, {})[item] = number_or_none(value, f"{where}: item {item}, {metric}")
    if not metrics:
        raise DataError(f"{where}: {model} has no scores; run the benchmark again")
    left_out = [str(part(row, "id", f"{where}: a left-out item")) for row in chosen.get("left_out") or ()]
    for values in metrics.values():
        values.update(dict.fromkeys((item for item in (*ids, *left_out) if item not in values), None))
    data = content.get("data")
    if content.get("judge") is not None:
        data = [data, content["judge"], ((chosen.get("winrate") or {}).get("b") or {}).get("name")]
    return ItemValues(model, metrics, {item: content_hash([data, item]) for item in (*ids, *left_out)})


def check_version(version: Any, where: str) -> None:
    if version != _VERSION:
        raise DataError(f"{where}: the result is of version {version!r}, this palate reads {_VERSION}; upgrade palate")


def part(row: Any, key: str, where: str) -> Any:
    """A field that must be there: an absent one is damage, not a 0."""
    if not isinstance(row, Mapping) or key not in row:
        raise DataError(f'{where} has no "{key}"; the file is damaged: measure again')
    return row[key]
