"""Result files as `palate eval` writes them, from hand-made scores: accuracy, win rates, a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import plain, write_json
from palate.evaluation.accuracy.preference import preference_accuracy
from palate.evaluation.benchmarks.results import BenchmarkResult, ModelComparison, ModelResult
from palate.evaluation.benchmarks.statistics import differences, rates
from palate.evaluation.winrate.items import VerdictRow, WinRateItem
from palate.evaluation.winrate.leaks import Leaks
from palate.evaluation.winrate.measure import measure
from palate.evaluation.winrate.result import Result, SideFacts
from palate.feedback.candidates import Candidates
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Dropped, Message

REFERENCE = [((-10.0, -10.5 + n % 2), (5, 5)) for n in range(20)]  # chosen is likelier in every second pair
POLICY = [((-8.0, -10.0), (5, 5))] * 15 + [((-9.0, -8.0), (5, 5))] * 5  # 15 of 20 right
GAP = "length gap, tokens"


def accuracy_facts() -> dict[str, Any]:
    gaps = ["-5 to -1"] * 10 + ["+1 to +9"] * 10
    found = preference_accuracy(
        REFERENCE,
        POLICY,
        prompts=range(20),
        beta=0.5,
        groupings={GAP: gaps},
        ids=[str(n) for n in range(20)],
        left_out=3,
    )
    facts: dict[str, Any] = plain(found.to_json())
    return facts


def win_rate_facts(judge: str = "rules.py:polite", heat: float = 0.0, wins: int = 14) -> dict[str, Any]:
    """20 prompts: `wins` of 18 judged ones are won, one is unparsed, one is missing."""
    items = []
    for n in range(18):
        answers = (Answer("a" * (400 if n % 2 else 20), "stop"), Answer(f"{n} and some words", "stop"))
        row = Candidates(f"p:{n}", (Message("user", f"why {n}?"),), answers)
        won = float(n < wins)
        items.append(WinRateItem(row.id, "judged", "because", (VerdictRow(won, 1), VerdictRow(won, -1)), row=row))
    items += [WinRateItem("p:18", "unparsed", "no verdict in it"), WinRateItem("p:19", "missing", "the engine is gone")]
    sides = SideFacts("runs/run", False, ["aaaa"], 2, 0), SideFacts("models/base", False, ["bbbb"], 0, 0)
    leaks = [Leaks(side.name, reason="not known") for side in sides]
    decoding = Decoding(64, heat, 1.0, 42)
    facts: dict[str, Any] = plain(
        Result(*sides, judge, "rule", decoding, items, measure(items), leaks, None, {}).to_json()
    )
    return facts


def benchmark_facts(identity: str = "aaaa", *, name: str = "run") -> dict[str, Any]:
    """40 safe prompts, 4 of them refused before and 12 after; one was too long after."""
    before = {str(n): {"over_refusal": float(n < 4)} for n in range(40)}
    after = {str(n): {"over_refusal": float(n < 12)} for n in range(39)}
    kinds = {str(n): "homonyms" if n < 20 else "definitions" for n in range(40)}
    left_out = [Dropped("39", "too_long", "row 40")]
    models = [
        ModelResult("before", "policy", "base", "bbbb", 2048, before, {}, [], rates(before, kinds, ["over_refusal"])),
        ModelResult(
            name, "policy", f"runs/{name}", identity, 2048, after, {}, left_out, rates(after, kinds, ["over_refusal"])
        ),
    ]
    changed = ModelComparison("before", name, 39, differences(before, after, kinds, ["over_refusal"]))
    result = BenchmarkResult(
        *(
            "xstest",
            "XSTest",
            "2308.01263",
            "one question",
            ["a rule on words"],
            [{"name": "x.csv", "sha256": "12" * 32}],
        ),
        *(40, 450, 7, "chat", "fp32", kinds, models, [changed]),
        {"over_refusal": "share of safe prompts that are refused (lower is better)"},
    )
    facts: dict[str, Any] = plain(result.to_json())
    return facts


def write_results(folder: Path) -> Path:
    """A folder of results: two judges, one of them at two temperatures, and a benchmark."""
    write_json(folder / "rule" / "winrate.json", win_rate_facts())
    for heat, wins in ((0.5, 12), (1.0, 6)):
        write_json(folder / "sweep" / f"t{heat:g}" / "winrate.json", win_rate_facts("models/rm", heat, wins))
    write_json(folder / "bench-xstest.json", benchmark_facts())
    return folder
