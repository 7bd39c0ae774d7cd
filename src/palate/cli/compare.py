"""`palate compare`: what runs answer to the same prompts, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say, show_answers
from palate.records import as_turn

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs.")]
Prompts = Annotated[
    str | None,
    typer.Option("--prompts", help="Prompts to answer now; default: the samples that the runs wrote."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE.html", help="HTML page; default: RUN/compare.html of the first run."),
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE.csv", help="Also write the table as CSV.")]
Tokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]


def command(
    runs: Runs,
    prompts: Prompts = None,
    output: Output = None,
    csv: Csv = None,
    max_new_tokens: Tokens = 128,
    as_json: AsJson = False,
) -> None:
    """A table of prompts, the runs' answers and the reference's, and a page with accuracies and differing configs."""
    from palate.evaluation.answers import compare
    from palate.evaluation.subject import read_run
    from palate.evaluation.table import write_csv
    from palate.report.contents import read_contents
    from palate.report.pages.compare import write_compare_report

    specs = [read_run(run) for run in runs]  # refuses what is no finished run, before anything is computed
    contents = [read_contents(run) for run in runs]
    rows = compare(runs, prompts, max_new_tokens=max_new_tokens, say=say)
    page = write_compare_report(rows, contents, output or runs[0] / "compare.html")
    stage = str(specs[0].config["stage"])
    if csv is not None:
        write_csv(rows, csv, stage=stage)
    if as_json:
        result_json(
            {
                "page": str(page),
                "rows": [
                    {
                        "prompt": [as_turn(turn) for turn in row.prompt],
                        "outputs": dict(row.outputs),
                        "reference": row.reference,
                    }
                    for row in rows
                ],
            }
        )
        return
    show_answers(rows, stage=stage)
    result(str(page))
