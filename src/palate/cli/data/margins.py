"""`palate data margins`: how a reference model sees the pairs, as a file that `palate data curate` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say
from palate.cli.data.arguments import (
    Columns,
    DatasetDir,
    Datasets,
    Labels,
    MaxDropped,
    MaxSamples,
    Split,
    Subset,
    chosen_columns,
    chosen_reading,
    say_labels,
)
from palate.errors import DataError, UsageError
from palate.progress import track

if TYPE_CHECKING:
    from palate.evaluation.subject import Subject
    from palate.records import PreferencePair

_AT_A_TIME = 256


def margins_command(
    datasets: Datasets,
    model: Annotated[str, typer.Option("--model", "-m", help="The reference: a model, or a run's result.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.jsonl", help="File with one {id, margin, …} per pair.")
    ],
    average: Annotated[str, typer.Option("--average", help="mean (per token) or sum (whole answers).")] = "sum",
    cutoff_len: Annotated[int, typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens.")] = 2048,
    template: Annotated[str | None, typer.Option("--template", help="Chat template by name, for a bare model.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = "auto",
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    max_dropped: MaxDropped = 0.5,
    as_json: AsJson = False,
) -> None:
    """Score every pair with a model: log π(chosen) − log π(rejected), for the rule reference_margin of curate."""
    if average not in ("mean", "sum"):
        raise UsageError(f"--average {average}: is not one of mean, sum")
    if not output.name.endswith(".jsonl"):
        raise UsageError(f"--output {output}: margins are JSON Lines; name a file that ends in .jsonl")

    from palate.data.contract import write_contract
    from palate.data.formats.writers import write_rows
    from palate.data.load import load_records
    from palate.data.outputs import check_output_file
    from palate.data.sources.spec import find_sources
    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import default_device, resolve
    from palate.records import PreferencePair

    sources = find_sources(datasets, dataset_dir=dataset_dir, split=split, subset=subset)
    check_output_file(output, sources)
    loaded = load_records(
        datasets,
        kind=PreferencePair,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        max_dropped=max_dropped,
        reading=chosen_reading(labels=label),
    )
    say_labels(loaded.sources)
    device = default_device()
    subject = Subject(model_spec(model, template=template), resolve(precision, device), device)
    say(f"scoring {len(loaded.records):,} pairs with {subject.name}")
    rows = list(_rows(subject, loaded.records, cutoff_len, average == "mean"))
    if not rows:
        raise DataError(f"none of the {len(loaded.records):,} pairs fits into {cutoff_len} tokens; raise --cutoff-len")
    counts = {"pairs": len(loaded.records), "scored": len(rows), "too_long": len(loaded.records) - len(rows)}
    write_rows(output, rows)
    write_contract(
        output.with_name(f"{output.name}.data.json"),
        how="margins",
        files={"margins": output},
        counts=counts,
        sources=sources,
        options={"model": model, "weights": subject.identity, "average": average, "cutoff_len": cutoff_len},
        reports=loaded.sources,
    )
    _report(output, counts, [row["margin"] for row in rows], average, as_json)


def _rows(subject: Subject, pairs: list[PreferencePair], cutoff_len: int, mean: bool) -> Iterator[Mapping[str, Any]]:
    """Pairs that fit, scored; a few hundred at a time, so that only their tokens are in memory."""
    from palate.text.encode import encode_records

    for start in track(range(0, len(pairs), _AT_A_TIME), f"blocks of {_AT_A_TIME} pairs"):
        groups = encode_records(pairs[start : start + _AT_A_TIME], subject.template, cutoff_len=cutoff_len).groups
        for group, (sums, tokens) in zip(groups, subject.score(groups), strict=True):
            chosen, rejected = (one / max(1, n) if mean else one for one, n in zip(sums, tokens, strict=True))
            yield {
                "id": group.id,
                "margin": chosen - rejected,
                "chosen_logp": sums[0],
                "rejected_logp": sums[1],
                "chosen_tokens": tokens[0],
                "rejected_tokens": tokens[1],
            }


def _report(output: Path, counts: Mapping[str, int], margins: list[float], average: str, as_json: bool) -> None:
    from palate.data.inspect import Spread

    spread = Spread.of(margins)
    agrees = sum(margin > 0 for margin in margins) / len(margins)
    if as_json:
        result_json({"output": str(output), **counts, "agrees": agrees, "average": average})
        return
    unit = "nats per token" if average == "mean" else "nats"
    lines = [f"{output}: {counts['scored']:,} pairs scored"]
    if counts["too_long"]:
        lines[0] += f", {counts['too_long']:,} too long"
    if spread is not None:
        lines.append(f"margin: median {spread.median:+.2f} {unit}, 5–95 % {spread.low:+.2f} … {spread.high:+.2f}")
    lines.append(f"the model ranks chosen higher in {agrees:.1%} of the pairs")
    lines.append(f"next: palate data curate … --rules with  - reference_margin: {{file: {output}, keep: [easy, hard]}}")
    result("\n".join(lines))
