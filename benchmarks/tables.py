"""Results as Markdown: `python benchmarks/tables.py` prints every table, `… docs/performance.md` writes them there.

A page has a pair of comments for each table, `<!-- table NAME -->` and `<!-- end NAME -->`; what stands between them is
replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _measure import RESULTS

Result = dict[str, Any]
GIGABYTE = 1e9
NOTHING = "Not measured yet."
OPENED = ("open_files", "threads", "children")
"""What a soak counts of the server, besides memory."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Render benchmark results as Markdown.")
    parser.add_argument("page", type=Path, nargs="?", help="page whose tables are replaced; absent: print them")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of JSON results")
    options = parser.parse_args()
    if options.page is not None and not options.page.is_file():
        parser.error(f"{options.page} is not there")
    tables = render_all(options.results)
    if set(tables.values()) == {NOTHING}:
        parser.error(f"{options.results} holds no benchmark's result; the page was left as it is")
    if options.page is None:
        print("\n\n".join(f"## {name}\n\n{text}" for name, text in tables.items()))
        return 0
    options.page.write_text(fill(options.page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0


def render_all(folder: Path) -> dict[str, str]:
    """Table name → Markdown, for every table; one without a result says so.

    Folders within hold results of other machines, which a new run does not replace.
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]
    tables = {}
    for name, render in TABLES.items():
        mine = [result for result in results if result.get("benchmark") == name]
        tables[name] = render(sorted(mine, key=_processor)) if mine else NOTHING
    return tables


def fill(page: str, tables: dict[str, str]) -> str:
    """The page with every table that it has a place for."""
    for name, text in tables.items():
        block = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        page = block.sub(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page)  # type: ignore[misc]
    return page


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; the first column reads, the others count."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def train_speed_table(results: Sequence[Result]) -> str:
    rows = []
    for result in sorted(results, key=_train_speed_order):
        ours, theirs, ratios = result["palate"], result["trl"], result["ratios"]
        rows.append(
            [
                _train_speed_name(result["settings"]),
                f"{ours['pairs_per_second']:.3f}",
                f"{theirs['pairs_per_second']:.3f}",
                f"**{ratios['pairs_per_second']:.2f}×**",
                f"{ours['useful_tokens_per_second']:.0f}",
                f"{theirs['useful_tokens_per_second']:.0f}",
                f"{ours['peak_bytes']['median'] / GIGABYTE:.2f}",
                f"{theirs['peak_bytes']['median'] / GIGABYTE:.2f}",
                f"**{ratios['peak_memory']:.2f}×**",
                _largest_difference(result),
                "yes" if all(result["checks"].values()) else "NO",
                result["settings"]["rounds"],
                _processor(result),
            ]
        )
    header = [
        "run",
        "pairs/s palate",
        "TRL",
        "ratio",
        "useful tokens/s palate",
        "TRL",
        "peak GB palate",
        "TRL",
        "ratio",
        "largest loss difference",
        "all checks hold",
        "rounds",
        "processor",
    ]
    return markdown(header, rows)


def _processor(result: Result) -> str:
    """What the figures were measured on, whether it multiplies bf16, and how fast it multiplies."""
    name: str = result["machine"]["cpu"]
    rates = [f"{precision} {rate / 1e9:.0f}" for precision, rate in result["machine"].get("products", {}).items()]
    return (name if "bf16" in name else f"{name}, no bf16") + (f" ({', '.join(rates)} GFLOP/s)" if rates else "")


def _train_speed_order(result: Result) -> tuple[Any, ...]:
    chosen = result["settings"]
    modes = ["full", "lora", "last"]
    return (
        chosen["precision"],
        chosen["prompt_ratio"],
        modes.index(chosen["mode"]),
        chosen["epochs"],
        chosen["warm_store"],
    )


def _train_speed_name(chosen: Result) -> str:
    modes = {"full": "full", "lora": "LoRA r = 16", "last": "last 5 layers + untied head"}
    parts = [modes[chosen["mode"]], f"{chosen['epochs']} epoch" + "s" * (chosen["epochs"] > 1), chosen["precision"]]
    if chosen["prompt_ratio"]:
        parts.append(f"prompt {chosen['prompt_ratio']:g}× the answer")
    if chosen["warm_store"]:
        parts.append("reference stored before")
    return ", ".join(parts)


def _largest_difference(result: Result) -> str:
    return f"{max(abs(step['palate']['loss'] - step['trl']['loss']) for step in result['steps']):.1e}"


def roofline_table(results: Sequence[Result]) -> str:
    return "\n\n".join(_roofline(result) for result in results)


def _roofline(result: Result) -> str:
    header = ["part", "share of the time", "GFLOP needed", "GFLOP/s", "of the peak"]
    rows = []
    for part in result["parts"]:
        counted = part["flops"] > 0
        rows.append(
            [
                part["name"],
                f"{100 * part['share']:.1f} %",
                f"{part['flops'] / 1e9:.0f}" if counted else "",
                f"{part['flops_per_second'] / 1e9:.0f}" if counted else "",
                f"{100 * part['of_peak']:.0f} %" if counted else "",
            ]
        )
    for name in ("step", "reference", "whole"):
        part = result[name]
        rows.append(
            [
                f"**{part['name']}**, {part['seconds']:.2f} s",
                "",
                f"{part['flops'] / 1e9:.0f}",
                f"{part['flops_per_second'] / 1e9:.0f}",
                f"**{100 * part['of_peak']:.0f} %**",
            ]
        )
    peak = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in result["peak"].items())
    facts = f"{_processor(result)}. Measured matrix-product peak: {peak}. Precision of the run: {result['precision']}."
    return f"{facts}\n\n{markdown(header, rows)}"


def scaling_table(results: Sequence[Result]) -> str:
    return "\n\n".join(_scaling(result) for result in sorted(results, key=lambda result: result["series"]))


def _scaling(result: Result) -> str:
    rows = [[row.get(name, "") for name in result["columns"]] for row in result["rows"]]
    formatted = [[f"{value:.4g}" if isinstance(value, float) else value for value in row] for row in rows]
    return f"**{result['title']}** ({_processor(result)})\n\n{markdown(result['columns'], formatted)}"


def generation_table(results: Sequence[Result]) -> str:
    rows = [
        [
            f"{result['settings']['prompts']} prompts × {result['settings']['samples']} samples, "
            f"{result['settings']['max_new_tokens']} tokens each, {result['settings']['precision']}",
            f"{result['palate']['tokens_per_second']:.0f}",
            f"{result['plain']['tokens_per_second']:.0f}",
            f"**{result['ratio']:.2f}×**",
            f"{result['palate']['peak_bytes']['median'] / GIGABYTE:.2f}",
            f"{result['plain']['peak_bytes']['median'] / GIGABYTE:.2f}",
            "yes" if all(result["checks"].values()) else "NO",
            result["settings"]["rounds"],
            _processor(result),
        ]
        for result in results
    ]
    header = ["run", "tokens/s palate", "plain generate", "ratio", "peak GB palate", "plain", "greedy answers equal"]
    return markdown([*header, "rounds", "processor"], rows)


def serve_table(results: Sequence[Result]) -> str:
    """Of servers, or of the batch alone: a row for each side and number of streams."""
    rows = []
    for result in results:
        last = list(result["sides"].values())[-1]
        for streams in last:
            for side, levels in result["sides"].items():
                found = {name: value["median"] for name, value in levels[streams].items()}
                ratio = found["tokens_per_second"] / last[streams]["tokens_per_second"]["median"]
                rows.append(
                    [
                        f"{side}, {streams} streams, {result['settings']['precision']}",
                        f"{found['tokens_per_second']:.0f}",
                        f"{ratio:.2f}×",
                        f"{1000 * found['first_p50']:.0f}",
                        f"{1000 * found['first_p95']:.0f}",
                        f"{found['tokens']:.0f}",
                        result["settings"]["rounds"],
                        _processor(result),
                    ]
                )
    header = ["side", "tokens/s", "of the last side's", "ms to first token p50", "p95", "tokens", "rounds", "processor"]
    return markdown(header, rows)


def pieces_table(results: Sequence[Result]) -> str:
    """What is in palate, and what is not because it did not help, each with the ratio of its times."""
    return "\n\n".join(part for result in results for part in _pieces(result))


def _pieces(result: Result) -> Iterator[str]:
    yield f"{_processor(result)}."
    header = ["change", "ms before", "after", "ratio"]
    for title, kept in (("In palate:", True), ("Tried and left out:", False)):
        lines = [_pieces_row(row) for row in result["rows"] if row["kept"] == kept]
        if lines:
            yield f"{title}\n\n{markdown(header, lines)}"


def _pieces_row(row: Result) -> list[str]:
    before, after = (row[side]["median"] * 1e3 for side in ("before", "after"))
    return [row["name"], f"{before:.1f}", f"{after:.1f}", f"**{row['ratio']:.2f}×**"]


def gpu_table(results: Sequence[Result]) -> str:
    """Of each machine: which forms of attention were equal, and palate beside TRL."""
    return "\n\n".join(part for result in results for part in _gpu(result))


def _gpu(result: Result) -> Iterator[str]:
    name = result.get("name", "CPU, a dry run: the figures mean nothing")
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    trl = (result.get("trl_versions") or {}).get("trl", "not installed")
    yield f"{name}, {result['peak_flops'] / 1e12:.2f} TFLOP/s in products of bf16 matrices. {versions}. TRL: {trl}."
    rows = []
    for kernel, dtype in sorted({(row["kernel"], row["dtype"]) for row in result["attention"]}):
        mine = [row for row in result["attention"] if (row["kernel"], row["dtype"]) == (kernel, dtype)]
        errors = [row["gradient"] for row in mine if "gradient" in row]
        padded = [row["padded_gradient"] for row in mine if "gradient" in row]
        rows.append(
            [
                f"{kernel.removeprefix('palate_')}, {dtype}",
                f"{sum(row['equal'] for row in mine)} of {len(mine)}",
                f"{max(errors):.1e}" if errors else "",
                f"{max(padded):.1e}" if padded else "",
            ]
        )
    yield markdown(["attention", "cases equal to padded rows", "largest error of gradients", "of padded rows"], rows)
    header = [
        "run",
        "pairs/s palate",
        "TRL",
        "ratio",
        "tokens/s palate",
        "of the peak",
        "peak GB palate",
        "TRL",
        "ratio",
    ]
    yield markdown([*header, "attention"], [_gpu_run(run, result["peak_flops"]) for run in result["runs"]])


def _gpu_run(run: Result, peak: float) -> list[str]:
    ours, theirs = run["palate"], run["trl"]
    cells = [
        f"{run['size']}, {run['tuning']}, prompt {run['prompt']}, answers {run['answer']}, {run['batch']} pairs a step"
    ]
    if "error" in ours:
        return [*cells, ours["error"], *[""] * 8]
    pairs, memory = ours["pairs_per_second"], ours["peak_bytes"]
    other = theirs.get("error") or f"{theirs['pairs_per_second']:.2f}"
    ratio = "" if "error" in theirs else f"**{pairs / theirs['pairs_per_second']:.2f}×**"
    measured = "error" not in theirs and memory > 0 and theirs["peak_bytes"] > 0
    cells += [f"{pairs:.2f}", other, ratio, f"{ours['tokens_per_second']:.0f}"]
    cells += [f"{100 * ours['flops_per_second'] / peak:.0f} %", f"{memory / GIGABYTE:.1f}"]
    cells += [f"{theirs['peak_bytes'] / GIGABYTE:.1f}" if measured else ""]
    return [*cells, f"**{memory / theirs['peak_bytes']:.2f}×**" if measured else "", ours["attention"]]


def capacity_table(results: Sequence[Result]) -> str:
    """Predicted and measured peak memory and seconds of a step.

    On a busy machine a step takes longer; the seconds of the processor, for each core that it uses, grow less.
    """
    header = ["run", "tokens of a row", "checkpointing", "GB predicted", "measured", "ratio"]
    header += ["step s predicted", "elapsed", "CPU s per core", "predicted / CPU s", "processor"]
    rows = []
    for result in results:
        for row in result["rows"]:
            memory = row["predicted_bytes"] / row["measured_bytes"]
            seconds = row["predicted_step_seconds"] / row["cpu_step_seconds"]
            rows.append(
                [
                    f"{row['mode']}, {result['precision']}",
                    row["length"],
                    "yes" if row["checkpointing"] else "no",
                    f"{row['predicted_bytes'] / GIGABYTE:.2f}",
                    f"{row['measured_bytes'] / GIGABYTE:.2f}",
                    f"**{memory:.2f}×**",
                    f"{row['predicted_step_seconds']:.2f}",
                    f"{row['measured_step_seconds']:.2f}",
                    f"{row['cpu_step_seconds']:.2f}",
                    f"**{seconds:.2f}×**",
                    f"{result['machine']['cpu']} ({1e3 * row['hardware']['tflops']:.0f} GFLOP/s)",
                ]
            )
    return markdown(header, rows)


def soak_table(results: Sequence[Result]) -> str:
    """Of the last soak: its jobs, and what the server had in the first and the last third of the time."""
    result = results[-1]
    rows = [
        [
            job["name"],
            job["runs"],
            job["kills"],
            job["resumes"],
            f"{job['equal']} of {job['runs']}",
            f"{job['seconds']:.1f}",
            f"{job['longest']:.1f}",
        ]
        for job in result["jobs"]
    ]
    header = ["job", "runs", "kills", "resumed runs", "equal results", "s without kills", "longest s without progress"]
    server = result["server"]
    facts = [
        ["minutes", result["settings"]["minutes"]],
        ["requests", f"{server['requests']:,}"],
        ["of these from clients that were killed", server["cancelled"]],
        ["failed requests", server["failed"]],
        ["MiB, first and last third", " → ".join(map(str, server["mebibytes"]))],
        ["MiB per hour, last two thirds", server["mebibytes_per_hour"]],
        *([f"least {name.replace('_', ' ')}", " → ".join(f"{n:.0f}" for n in server[name])] for name in OPENED),
        ["left behind: files, processes, connections", len(result["leftovers"])],
        ["problems", len(result["problems"])],
    ]
    return f"{markdown(header, rows)}\n\n{markdown(['server and machine', _processor(result)], facts)}"


TABLES: dict[str, Callable[[Sequence[Result]], str]] = {
    "train_speed": train_speed_table,
    "roofline": roofline_table,
    "scaling": scaling_table,
    "generation": generation_table,
    "pieces": pieces_table,
    "serve": serve_table,
    "batch": serve_table,
    "gpu": gpu_table,
    "capacity": capacity_table,
    "soak": soak_table,
}

if __name__ == "__main__":
    sys.exit(main())
