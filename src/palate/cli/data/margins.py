"""`palate data margins`: how a reference model scores the pairs, as a file that `palate data curate` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import Average, CutoffLen, PrecisionName, TemplateName
from palate.cli.console import print_done, print_progress
from palate.cli.dataset import Datasets, MaxDropped, print_labels, reads_dataset
from palate.cli.models import model_path
from palate.errors import DataError, UsageError
from palate.progress import track
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.evaluation.subject import Subject
    from palate.records import PreferencePair

_AT_A_TIME = 256


@reads_dataset(Datasets)
def margins_command(
    request: DatasetRequest,
    model: Annotated[str, Option("--model", "-m", help="The reference: a model, or a finished run.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE.jsonl", help="File with one {id, margin, …} per pair.")
    ],
    average: Average = "sum",
    cutoff_len: CutoffLen = 2048,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    max_dropped: MaxDropped = 0.5,
) -> None:
    """Score every pair with a model: log π(chosen) − log π(rejected), for the curation rule reference_margin.

    Example: palate data margins pairs.jsonl -m runs/sft -o margins.jsonl
    """
    if not output.name.endswith(".jsonl"):
        raise UsageError(f"--output {output}: margins are JSON Lines; name a file that ends in .jsonl")

    from palate.data.contract import check_output_file, write_contract
    from palate.data.formats.source_labels import check_labels_used
    from palate.data.formats.writers import write_rows
    from palate.data.load import load_records
    from palate.data.sources.spec import find_sources
    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import default_device, resolve
    from palate.records import PreferencePair

    sources = find_sources(request)
    check_output_file(output, sources)
    loaded = load_records(replace(request, max_dropped=max_dropped), kind=PreferencePair)
    check_labels_used(loaded.sources, request.labels)
    print_labels(loaded.sources)
    device = default_device()
    subject = Subject(model_spec(model_path(model), template=template), resolve(precision, device), device)
    print_progress(f"scoring {amount(len(loaded.records), 'pair')} with {subject.name}")
    rows = list(_rows(subject, loaded.records, cutoff_len, average == "mean"))
    if not rows:
        raise DataError(f"no pair fits into {cutoff_len} tokens; raise --cutoff-len")
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
    _report(output, counts, [row["margin"] for row in rows], average)


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


def _report(output: Path, counts: Mapping[str, int], margins: list[float], average: str) -> None:
    from palate.data.inspect import Spread

    spread = Spread.of(margins)
    agrees = sum(margin > 0 for margin in margins) / len(margins)
    unit = "nats per token" if average == "mean" else "nats"
    lines = [f"{output}: {amount(counts['scored'], 'pair')} scored"]
    if counts["too_long"]:
        lines[0] += f", {counts['too_long']:,} too long"
    if spread is not None:
        lines.append(f"margin: median {spread.median:+.2f} {unit}, 5–95 % {spread.low:+.2f} … {spread.high:+.2f}")
    lines.append(f"the model ranks chosen higher in {agrees:.1%} of the pairs")
    lines.append(f"next: palate data curate … --rules with  - reference_margin: {{file: {output}, keep: [easy, hard]}}")
    print_done("\n".join(lines), {"output": str(output), **counts, "agrees": agrees, "average": average})
