"""`palate report`: one HTML file about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import print_done, print_json, print_note, print_result, wants_json

Results = Annotated[
    list[Path] | None,
    Option(
        "--results",
        metavar="FOLDER|FILE",
        help="What `palate eval` wrote about this run; may be given again. Writes the evaluation and the model card.",
    ),
]
RunPath = Annotated[Path, Argument(metavar="RUN", help="Directory of a run, sweep or pipeline, finished or not.")]
Output = Annotated[Path | None, Option("--output", "-o", metavar="FILE.html", help="HTML page. Default: in RUN.")]


def command(run: RunPath, results: Results = None, output: Output = None) -> None:
    """Write the report of a run as one HTML file: curves, health, data, sampled answers and config.

    With --results: the evaluation before and after training, as HTML, Markdown and JSON, and the model card.

    Example: palate report runs/dpo
    """
    if results:
        _evaluation(run, results, output)
        return
    from palate.report.contents import read_contents
    from palate.report.judgements.directions import directions, verdict
    from palate.report.pages.pipeline import is_pipeline_folder, write_pipeline_report
    from palate.report.pages.run import write_run_report
    from palate.report.pages.sweep import is_sweep_folder, write_sweep_report

    several = {"sweep": (is_sweep_folder, write_sweep_report), "pipeline": (is_pipeline_folder, write_pipeline_report)}
    for kind, (is_one, write) in several.items():
        if is_one(run):
            written = str(write(run, output))
            print_done(written, {"report": written, kind: str(run)})
            return
    contents = read_contents(run)
    path = write_run_report(run, output)
    judged = directions(contents)
    kind, line = verdict(contents, judged)
    if wants_json():
        moves = [{"metric": one.metric, "split": one.split, "verdict": one.verdict} for one in judged]
        facts = {"report": path, "run": run, "status": contents.status, "verdict": kind}
        print_json({**facts, "directions": moves, "problems": contents.problems})
        return
    for problem in contents.problems:
        print_note(problem)
    if kind == "wrong":
        print_note(line)
    print_result(str(path))


def _evaluation(run: Path, results: list[Path], output: Path | None) -> None:
    from palate.report.evaluation.page import write_evaluation

    names = ("report", "markdown", "json", "card")
    written = dict(zip(names, map(str, write_evaluation(run, results, output)), strict=True))
    print_done("\n".join(written.values()), {**written, "run": str(run)})
