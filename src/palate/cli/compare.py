"""`palate compare`: answers of several runs to the same prompts, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.arguments import MaxNewTokens
from palate.cli.console import print_answers, print_json, print_progress, print_result, wants_json
from palate.cli.dataset import reads_dataset
from palate.records import DatasetRequest, as_turns

Runs = Annotated[list[Path], Argument(metavar="RUN", help="Finished runs.")]
Prompts = Annotated[
    str | None, Option("--prompts", help="Dataset of prompts to answer now. Default: the samples that the runs wrote.")
]
Output = Annotated[
    Path | None,
    Option("--output", "-o", metavar="FILE.html", help="HTML page. Default: RUN/compare.html of the first run."),
]
Csv = Annotated[Path | None, Option("--csv", metavar="FILE.csv", help="Also write the table as CSV.")]


@reads_dataset(Prompts, optional=True, prompts_only=True)
def command(
    runs: Runs, request: DatasetRequest, output: Output = None, csv: Csv = None, max_new_tokens: MaxNewTokens = 128
) -> None:
    """Compare the answers of runs and their reference, on the terminal and as a page with accuracies and configs.

    Example: palate compare runs/dpo runs/kto --prompts prompts.jsonl
    """
    from palate.artifacts import check_writable
    from palate.evaluation.answers.compare import compare
    from palate.evaluation.answers.table import write_csv
    from palate.evaluation.subject import read_run
    from palate.report.contents import read_contents
    from palate.report.pages.compare import write_compare_report

    specs = [read_run(run) for run in runs]  # fails for an unfinished run before anything is computed
    for path in filter(None, (output, csv)):
        check_writable(path)
    contents = [read_contents(run) for run in runs]
    rows = compare(
        runs, request if request.dataset else None, max_new_tokens=max_new_tokens, on_progress=print_progress
    )
    page = write_compare_report(rows, contents, output or runs[0] / "compare.html")
    stage = str(specs[0].config["stage"])
    if csv is not None:
        write_csv(rows, csv, stage=stage)
    if wants_json():
        shown = [{"prompt": as_turns(row.prompt), "outputs": row.outputs, "reference": row.reference} for row in rows]
        print_json({"page": page, "rows": shown})
        return
    print_answers(rows, stage=stage)
    print_result(str(page))
