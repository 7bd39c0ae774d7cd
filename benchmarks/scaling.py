"""What a pair costs as things grow: length, number of pairs, completions per prompt, vocabulary; and preparing data.

    python benchmarks/scaling.py                     every series
    python benchmarks/scaling.py length data         some of them
    python benchmarks/scaling.py length --sizes 128 256

| series      | what grows                                   | model                       |
|-------------|----------------------------------------------|-----------------------------|
| length      | tokens of prompt + completion                | SmolLM2, all weights        |
| pairs       | pairs of a whole run                         | a tiny random one           |
| steps       | pairs of the dataset, 30 steps from each     | SmolLM2, all weights        |
| completions | completions per prompt (Plackett–Luce)       | SmolLM2, all weights        |
| vocabulary  | rows of embedding and head                   | SmolLM2, enlarged           |
| data        | rows that are read and tokenised, TRL beside | none                        |

Every measurement is a process of its own. Seconds of training include the reference; loading is not in them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _measure import (
    MEBIBYTE,
    Report,
    located,
    model_and_source,
    native_formats,
    palate_python,
    positive,
    results_option,
    run_child,
    say,
    spread,
    trl_python,
    write_result,
)
from tables import scaling_table

Row = dict[str, Any]
BATCH = 4
# TRL needs minutes beyond this many rows; its rate does not depend on their number.
TRL_ROWS = 3000


@dataclass(frozen=True, slots=True)
class Series:
    """One thing that grows.

    Attributes:
        title: of the table.
        unit: what the sizes are, the first column.
        sizes: measured ones.
        measure: size → the row's other columns.
    """

    title: str
    unit: str
    sizes: Sequence[int]
    measure: Callable[[Bench, int], list[Row]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a series runs.

    Attributes:
        model: built-in name or folder.
        source: file of pairs whose texts are used.
        pairs: of one training measurement, where it is not what grows.
        rounds: of the data series.
        folder: for everything that is written.
    """

    model: str
    source: Path
    pairs: int
    rounds: int
    folder: Path

    def palate(self, job: Row, environment: Mapping[str, str] | None = None) -> Report:
        return run_child(palate_python(), "_palate_child.py", job, self.folder, dict(environment or {}))

    def rows(self, rows: int, length: int, completions: int = 2, model: str | None = None) -> Path:
        """A file of rows of one length, made once."""
        name = f"rows-{rows}-{length}-{completions}-{Path(model or self.model).name}.jsonl"
        path = self.folder / name
        if not path.exists():
            job = {"do": "make_rows", "rows": rows, "length": length, "completions": completions}
            self.palate({**job, "model": model or self.model, "source": str(self.source), "pairs": str(path)})
        return path

    def train(self, pairs: Path, length: int, *, model: str | None = None, **changed: Any) -> Report:
        """One run; reference values are never found stored."""
        number = len(list(self.folder.glob("run-*")))
        config = {
            "stage": "dpo",
            "model_name_or_path": model or self.model,
            "dataset": str(pairs),
            "output_dir": str(self.folder / f"run-{number}"),
            "cutoff_len": length,
            "per_device_train_batch_size": BATCH,
            "logging_steps": 1000,
            "save_strategy": "no",
            "report_to": "none",
            "sample_prompts": 0,
            **changed,
        }
        store = {"PALATE_REFERENCES": str(self.folder / f"references-{number}")}
        return self.palate({"do": "train", "config": config}, store)


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        bench = Bench(options.model, options.source, options.pairs, options.rounds, Path(folder))
        for name in options.series or list(SERIES):
            series = SERIES[name]
            rows = []
            for size in options.sizes or series.sizes:
                for row in series.measure(bench, size):
                    rows.append({series.unit: size, **row})
                    say(f"{name}: {rows[-1]}")
            result = located(
                {
                    "benchmark": "scaling",
                    "series": name,
                    "title": series.title,
                    "settings": {"model": options.model, "source": options.source.name, **counts(name, options)},
                    "columns": list(dict.fromkeys(column for row in rows for column in row)),
                    "rows": rows,
                }
            )
            # Other sizes than the series' own are a result beside it.
            measured = "-".join([name, *map(str, options.sizes or ())])
            path = write_result(f"scaling-{measured}", result, options.results)
            print(scaling_table([result]), end="\n\n")
            say(f"written: {path}")
    return 0


def counts(series: str, options: argparse.Namespace) -> dict[str, Any]:
    """What else the figures hang on; a run's precision is what `auto` means here, and only `data` is repeated."""
    rounds = options.rounds if series == "data" else 1
    return {"pairs": options.pairs, "rounds": rounds, "precision": "bf16" if native_formats() else "fp32"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cost of a pair as things grow.")
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"of {', '.join(SERIES)}; all where none is named")
    parser.add_argument("--sizes", type=positive, nargs="+", help="other sizes than the series' own")
    parser.add_argument("--pairs", type=positive, default=16, help="pairs of a training measurement")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds of the data series, palate and TRL in turn")
    model_and_source(parser)
    results_option(parser)
    options = parser.parse_args()
    unknown = sorted(set(options.series) - set(SERIES))
    if unknown:
        parser.error(f"unknown series {', '.join(unknown)}; there are {', '.join(SERIES)}")
    if "data" in (options.series or SERIES):
        trl_python()  # says at once that it is missing
    return options


def length_row(bench: Bench, size: int) -> list[Row]:
    report = bench.train(bench.rows(bench.pairs, size), size)
    return [_costs(report, bench.pairs, 2)]


def pairs_row(bench: Bench, size: int) -> list[Row]:
    tiny = bench.folder / "tiny"
    if not tiny.exists():
        bench.palate({"do": "make_tiny", "source": str(bench.source), "model": str(tiny)})
    report = bench.train(bench.rows(size, 64, model=str(tiny)), 64, model=str(tiny))
    return [_costs(report, size, 2)]


def steps_row(bench: Bench, size: int, steps: int = 30) -> list[Row]:
    """The reference runs live: a store would be filled for the whole dataset, whatever of it 30 steps see."""
    report = bench.train(bench.rows(size, 128), 128, max_steps=steps, reference_cache="off")
    return [{**_costs(report, steps * BATCH, 2), "data, s": report["timings"]["data"]}]


def completions_row(bench: Bench, size: int) -> list[Row]:
    groups = max(BATCH, bench.pairs // 2)
    report = bench.train(bench.rows(groups, 256, completions=size), 256, pref_loss="plackett_luce")
    return [_costs(report, groups, size)]


def vocabulary_row(bench: Bench, size: int) -> list[Row]:
    model = bench.folder / f"vocabulary-{size}"
    bench.palate({"do": "make_enlarged", "source": bench.model, "model": str(model), "vocabulary": size})
    report = bench.train(bench.rows(bench.pairs, 256), 256, model=str(model))
    return [_costs(report, bench.pairs, 2)]


def _costs(report: Report, asked: int, completions: int) -> Row:
    """A row's columns; `asked` groups were to be trained on, of which palate may have dropped some equal ones."""
    groups = min(asked, report["groups"])
    if groups < 0.99 * asked:
        sys.exit(f"{asked} rows were to be trained on, and {groups} were")
    return {
        "s per group": report["seconds"] / groups,
        "s per completion": report["seconds"] / groups / completions,
        "useful tokens/s": report["tokens_per_group"] * groups / report["seconds"],
        "reference, s": report["timings"]["reference"],
        "training, s": report["timings"]["train"],
        "peak MiB": round(report["peak_bytes"] / MEBIBYTE),
    }


def data_rows(bench: Bench, size: int) -> list[Row]:
    """Rows of real text to token ids, the tokenizer's threads on and off; TRL also with two processes."""
    pairs = bench.folder / f"many-{size}.jsonl"
    bench.palate({"do": "make_many", "source": str(bench.source), "rows": size, "pairs": str(pairs)})
    job = {"pairs": str(pairs), "model": bench.model, "cutoff_len": 2048, "show": 0}
    kinds: dict[tuple[str, int, str], list[Report]] = {}
    trl = {"folder": str(bench.folder / "trl"), "model": bench.palate({"do": "locate", **job})["model"]}
    for _ in range(bench.rounds):
        for processes, threads in ((1, "true"), (1, "false"), (2, "false")):
            environment = {"TOKENIZERS_PARALLELISM": threads}
            if processes == 1:
                done = bench.palate({"do": "prepare_rows", **job}, environment)
                kinds.setdefault(("palate", processes, threads), []).append(done)
            if size <= TRL_ROWS:
                peer = {"do": "tokenise", **job, **trl, "workers": processes}
                done = run_child(trl_python(), "_trl_child.py", peer, bench.folder, environment)
                kinds.setdefault(("TRL", processes, threads), []).append(done)
    pairs.unlink()
    return [_preparation(kind, reports, kinds) for kind, reports in sorted(kinds.items())]


def _median_seconds(reports: Sequence[Report]) -> float:
    return float(spread([report["seconds"] for report in reports])["median"])


def _preparation(
    kind: tuple[str, int, str], reports: Sequence[Report], kinds: Mapping[tuple[str, int, str], Sequence[Report]]
) -> Row:
    side, processes, threads = kind
    seconds = _median_seconds(reports)
    # Threads off is one core on both sides. With threads, palate is compared with the fastest TRL.
    peers = [
        _median_seconds(done)
        for peer, done in kinds.items()
        if peer[0] == "TRL" and (threads == "true" or peer == ("TRL", 1, "false"))
    ]
    ratio = min(peers) / seconds if peers and side == "palate" else ""
    reading = spread([report["read_seconds"] for report in reports])["median"] if side == "palate" else ""
    return {
        "side": side,
        "processes": processes,
        "tokenizer threads": "on" if threads == "true" else "off",
        "rows/s": reports[0]["rows"] / seconds,
        "of TRL's": ratio,
        "reading, s": reading,
        "peak MiB of the main process": round(
            spread([report["peak_bytes"] for report in reports])["median"] / MEBIBYTE
        ),
    }


SERIES: dict[str, Series] = {
    "length": Series(
        "Sequence length: SmolLM2-135M, all weights, half prompt and half answer",
        "tokens per row",
        (128, 256, 512, 1024, 2048),
        length_row,
    ),
    "pairs": Series("Number of pairs: a tiny model, one epoch", "pairs", (100, 1_000, 10_000), pairs_row),
    "steps": Series("Size of the dataset: SmolLM2-135M, 30 steps", "pairs", (120, 1_000, 10_000), steps_row),
    "completions": Series(
        "Completions per prompt: SmolLM2-135M, Plackett–Luce, 256 tokens per row", "K", (2, 4, 8), completions_row
    ),
    "vocabulary": Series(
        "Vocabulary: SmolLM2-135M with its embedding and tied head enlarged, 256 tokens per row",
        "tokens in the vocabulary",
        (49_152, 98_304, 151_936, 262_144),
        vocabulary_row,
    ),
    "data": Series(
        "Preparing data: reading, templates and tokens (TRL: templates and tokens only)",
        "rows",
        (300, 3_000, 30_000, 100_000),
        data_rows,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
