"""Benchmarks of language models, reward models and judges: one file in `suite` each, and one row of its table.

A benchmark reads its own files into items, states its prompt protocol and its deviations from the published one, and
turns what a model returned for an item into named metrics. `run_benchmark` does the rest for all of them.
"""

from __future__ import annotations

from palate.evaluation.benchmarks.options import BenchmarkOptions, JudgeOptions
from palate.evaluation.benchmarks.results import BenchmarkResult
from palate.evaluation.benchmarks.run import run_benchmark
from palate.evaluation.benchmarks.suite.table import BENCHMARKS, find_benchmark

__all__ = ["BENCHMARKS", "BenchmarkOptions", "BenchmarkResult", "JudgeOptions", "find_benchmark", "run_benchmark"]
