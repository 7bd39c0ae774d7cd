"""The evidence of a gate, from the results of `palate eval winrate` and `palate eval bench`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate.artifacts import file_hash, read_json
from palate.data.prompts import load_prompts
from palate.errors import DataError, UsageError
from palate.evaluation.logs.items import number_or_none
from palate.evaluation.logs.palate_results import check_version, is_benchmark, is_win_rate, part, read_benchmark
from palate.evaluation.logs.read import read_log
from palate.evaluation.winrate.items import prompts_hash
from palate.feedback.calibration.card import load_card
from palate.feedback.candidates import iter_candidates
from palate.loop.config import PEOPLE
from palate.loop.gate.config import GateFields
from palate.loop.gate.decision import CardFacts, Evidence, WinRateFacts
from palate.records import Record
from palate.stats.repetition import repeats


def find_results(paths: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The folder of `palate eval winrate` and the files of `palate eval bench`, recognised by their content.

    Raises:
        UsageError: a path is no result, or there is not exactly one win rate.
    """
    win_rates, benchmarks = [], []
    for path in paths:
        recognised = False
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            content = read_json(file)
            if is_win_rate(content):
                win_rates.append(file)
            elif is_benchmark(content):
                benchmarks.append(file)
            recognised = recognised or is_win_rate(content) or is_benchmark(content)
        if not recognised:
            raise UsageError(f"{path}: has no result; name folders of `palate eval winrate` and `palate eval bench`")
    if len(win_rates) != 1:
        names = f": {', '.join(map(str, win_rates))}" if win_rates else "; measure it with `palate eval winrate`"
        raise UsageError(f"a gate needs one win rate, here are {len(win_rates)}{names}")
    return win_rates[0].parent, benchmarks


def gate_prompts(config: GateFields) -> list[Record]:
    """The prompts that the config names.

    Raises:
        DataError: they cannot be read, or they are not `n`.
    """
    prompts, _ = load_prompts(config.prompts)
    if len(prompts) != config.n:
        raise DataError(f"{config.prompts}: has {len(prompts):,} prompts, but the gate's config has n: {config.n}")
    return prompts


def read_evidence(
    win_rate: Path,
    benchmarks: Sequence[Path],
    config: GateFields,
    prompts: Sequence[Record],
    *,
    must_pass: Path | None = None,
    card: Path | None = None,
    latency: tuple[float, float] | None = None,
    now: datetime | None = None,
) -> tuple[Evidence, dict[str, Any]]:
    """The evidence, and what the verdict says about its origin: names of both sides and SHA-256 of each file.

    Args:
        win_rate, benchmarks: of `find_results`.
        must_pass: results of the must-pass prompts, in any format of `palate eval compare`; 1 is passed.
        latency: 95th percentiles, incumbent's and candidate's.
        now: time from which the card's age is counted; by default the current one.

    Raises:
        DataError: a file is damaged, or a benchmark is of other models than the win rate.
    """
    file = win_rate / "winrate.json"
    content = read_json(file)
    check_version(content.get("version"), str(file))
    evidence = Evidence(
        _win_rate(content, win_rate, config, prompts),
        {
            guard.metric: scores
            for guard in config.guards
            if (scores := _scores(guard.metric, benchmarks, content, lower=guard.lower_is_better)) is not None
        },
        _passed(must_pass) if must_pass is not None else None,
        latency,
        None if card is None else _card(card, content, now or datetime.now(UTC)),
    )
    files = [file, *benchmarks, *(path for path in (must_pass, card) if path is not None and path.is_file())]
    sides = {"candidate": content["a"]["name"], "incumbent": content["b"]["name"]}
    return evidence, {**sides, "inputs": {str(path): file_hash(path) for path in files}}


def _win_rate(content: Mapping[str, Any], folder: Path, config: GateFields, prompts: Sequence[Record]) -> WinRateFacts:
    where = str(folder / "winrate.json")
    items: Sequence[Mapping[str, Any]] = content["items"]

    def column(name: str) -> list[float]:
        values = [number_or_none(part(item, name, f"{where}: an item"), f"{where}: {name}") for item in items]
        return [math.nan if value is None else value for value in values]

    expected = prompts[: len(items)] if config.sequential else prompts
    lengths = zip(column("length_a"), column("length_b"), strict=True)
    mean_a, mean_b = part(content, "mean_lengths", where)
    position = content.get("position")
    return WinRateFacts(
        scores=column("score"),
        shown_first=column("shown_first"),
        shown_second=column("shown_second"),
        lengths=[a - b for a, b in lengths],
        clusters=[item.get("group") or item["id"] for item in items],
        judge=str(part(content, "judge", where)),
        by_people=content["judge"] == PEOPLE,
        decoding=content.get("decoding"),
        same_prompts=content.get("prompts_hash") == prompts_hash(expected),
        consistency=None if position is None else float(position["consistency"]["estimate"]),
        leaked=_leaked(content.get("leaks") or ()),
        length_ratio=mean_a / mean_b if mean_b else math.inf,
        empty_or_repeated=_empty_or_repeated(folder / "candidates.jsonl"),
    )


def _leaked(leaks: Sequence[Mapping[str, Any]]) -> int | None:
    """Prompts in the training data of a side; None if neither side's could be checked."""
    checked = [side for side in leaks if not side.get("reason")]
    return len({name for side in checked for name in side["found"]}) if checked else None


def _empty_or_repeated(path: Path) -> float:
    """Share of the candidate's answers, the first of each row, without text or with a repetition at the end."""
    texts = [row.completions[0].text for row in iter_candidates(path)]
    return sum(not text.strip() or repeats(text) for text in texts) / len(texts)


def _scores(
    metric: str, files: Sequence[Path], win_rate: Mapping[str, Any], *, lower: bool
) -> tuple[list[float], list[float]] | None:
    """The scores (incumbent, candidate) of the items that both have; None if no file has both models.

    Models are found by the content hash of their weights. Where the win rate or the benchmark has none, as of an
    engine, a file of exactly two models has the incumbent first.
    """
    name, _, measured = metric.partition("/")
    sides: dict[str, dict[str, tuple[str, float]]] = {}
    for file in files:
        content = read_json(file)
        if content["benchmark"] != name:
            continue
        falling = content.get("lower_is_better")  # None: the harness does not say
        if falling is not None and (measured in falling) != lower:
            better = "lower" if measured in falling else "higher"
            raise DataError(f"{file}: {better} is better for {metric}; the gate's config has lower_is_better: {lower}")
        for side, model in _sides(file, content, win_rate):
            read = read_benchmark(content, str(file), model)
            values = {item: value for item, value in read.metrics.get(metric, {}).items() if value is not None}
            sides[side] = {item: (read.hashes[item], value) for item, value in values.items()}
    before, after = sides.get("b"), sides.get("a")
    if not before or not after:
        return None
    shared = [item for item in before if item in after]
    if any(before[item][0] != after[item][0] for item in shared):
        raise DataError(f"{metric}: the two models were measured on other data; measure them on the same files")
    return [before[item][1] for item in shared], [after[item][1] for item in shared]


def _sides(file: Path, content: Mapping[str, Any], win_rate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(`a` or `b`, name of the model in the file) for each side that the file has."""
    models = [(str(model["name"]), model.get("identity")) for model in content["models"]]
    known = {side: set(win_rate[side].get("identities") or ()) for side in ("a", "b")}
    found = [(side, name) for name, identity in models for side in ("a", "b") if identity in known[side]]
    if found:
        return found
    if all(known.values()) and all(identity for _, identity in models):
        raise DataError(f"{file}: has neither model of the win rate, but {', '.join(name for name, _ in models)}")
    return [("b", models[0][0]), ("a", models[1][0])] if len(models) == 2 else []


def _passed(path: Path) -> dict[str, bool]:
    """Prompt → whether every metric is 1; prompts without a value are left out."""
    read = read_log(path)
    found: dict[str, bool] = {}
    for values in read.metrics.values():
        for item, value in values.items():
            if value is not None:
                found[item] = found.get(item, True) and value == 1
    return found


def _card(path: Path, win_rate: Mapping[str, Any], now: datetime) -> CardFacts:
    card = load_card(path)
    days = (now - datetime.fromisoformat(card.when).astimezone(UTC)).total_seconds() / 86_400
    return CardFacts(asdict(card.judge) == win_rate.get("judge_identity"), days, card.verdict, card.reasons)
