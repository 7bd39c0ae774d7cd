"""All benchmarks: one row each."""

from __future__ import annotations

from palate.errors import UsageError, did_you_mean
from palate.evaluation.benchmarks.benchmark import Benchmark
from palate.evaluation.benchmarks.judged.benchmark import JudgedBenchmark
from palate.evaluation.benchmarks.suite.alpacaeval import ALPACAEVAL
from palate.evaluation.benchmarks.suite.arenahard import ARENAHARD
from palate.evaluation.benchmarks.suite.llmbar import LLMBAR
from palate.evaluation.benchmarks.suite.mtbench import MTBENCH
from palate.evaluation.benchmarks.suite.rewardbench2 import REWARDBENCH2
from palate.evaluation.benchmarks.suite.rmbench import RMBENCH
from palate.evaluation.benchmarks.suite.safetybench import SAFETYBENCH
from palate.evaluation.benchmarks.suite.truthfulqa import TRUTHFULQA
from palate.evaluation.benchmarks.suite.xstest import XSTEST
from palate.plugins import load_plugin

_ALL: tuple[Benchmark | JudgedBenchmark, ...] = (
    TRUTHFULQA,
    SAFETYBENCH,
    XSTEST,
    LLMBAR,
    REWARDBENCH2,
    RMBENCH,
    MTBENCH,
    ALPACAEVAL,
    ARENAHARD,
)
BENCHMARKS: dict[str, Benchmark | JudgedBenchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str) -> Benchmark | JudgedBenchmark:
    """The benchmark of a name; letter case, dashes and underscores do not count.

    Raises:
        UsageError: there is none; names the nearest one and all others.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    if wanted in BENCHMARKS:
        return BENCHMARKS[wanted]
    plugin: Benchmark | None = load_plugin("benchmarks", name)
    if plugin is not None:
        return plugin
    hint = did_you_mean(wanted, BENCHMARKS)
    raise UsageError(f"there is no benchmark {name!r}{hint and f'; {hint}'} (known: {', '.join(BENCHMARKS)})")
