"""The published files, where they lie beside the repository: 20 items each on a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from palate.evaluation.benchmarks import BenchmarkOptions, run_benchmark
from palate.evaluation.benchmarks.benchmark import Item
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.benchmarks.suite.table import BENCHMARKS
from tiny import save_tiny


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("big") / "llama", initializer_range=0.2, max_position_embeddings=8192)


@pytest.mark.parametrize(
    ("name", "of", "metrics"),
    [
        ("truthfulqa", 790, {"mc1", "mc2", "binary"}),
        ("safetybench", 2100, {"accuracy"}),
        ("xstest", 450, {"over_refusal", "refusal"}),
        ("llmbar", 100, {"accuracy"}),
    ],
)
def test_twenty_items(shared_data: Callable[[str], Path], big: Path, name: str, of: int, metrics: set[str]) -> None:
    real = shared_data("benchmark")
    longest = 4 if name == "xstest" else None
    options = BenchmarkOptions(data=[real], max_samples=20, precision="fp32", cutoff_len=8192, max_new_tokens=longest)
    result = run_benchmark(name, [str(big)], options)
    [model] = result.models
    assert (result.items, result.of) == (20, of)
    assert len(model.scores) + len(model.left_out) == 20
    assert not [one for one in model.left_out if one.reason != "no_answer"]
    assert {metric for scores in model.scores.values() for metric in scores} == metrics


def test_truthfulqa_of_both_files(shared_data: Callable[[str], Path]) -> None:
    """The table and the JSON file describe the same questions, best answers and categories."""
    read = BENCHMARKS["truthfulqa"].read
    table, tasks = (
        read_file(shared_data(f"benchmark/{name}")) for name in ("TruthfulQA.csv", "truthfulqa_mc_task.json")
    )
    alone, both = read([table]), read([table, tasks])
    assert [item.prompt for item in alone] == [item.prompt for item in both]
    assert [item.category for item in alone] == [item.category for item in both]
    assert len({item.category for item in both}) == 37

    def best(item: Item) -> str:
        return item.choices[item.sets["binary"].right[0]]

    assert [best(item) for item in alone] == [best(item) for item in both]
