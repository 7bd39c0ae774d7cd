"""The evaluation of a run: `evaluation.html`, its twins in Markdown and JSON, and the run's model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.artifacts import RunDir
from palate.artifacts.model_card import MeasuredFigure, write_model_card
from palate.errors import DataError
from palate.report.contents import RunContents, read_contents
from palate.report.document import Document, Section, table_markdown
from palate.report.evaluation.accuracy import accuracy_headline, accuracy_section, margin_section
from palate.report.evaluation.benchmarks import benchmark_headlines, benchmark_section
from palate.report.evaluation.headline import Headline, change_chart, headline_table
from palate.report.evaluation.results import ResultFile, of_kind, read_results
from palate.report.evaluation.winrates import win_rate_headline, win_rate_notes, win_rate_section
from palate.report.key_figures import subtitle
from palate.report.tables import Cell, Table


def write_evaluation(run_dir: Path, results: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Write the evaluation of a run and renew its model card.

    Args:
        results: files and folders of results; the run's own accuracy.json is read too.
        output: HTML file, `evaluation.html` in the run directory by default; the twins lie beside it.

    Returns:
        The page, its Markdown, its JSON, and the model card.

    Raises:
        ArtifactError: the directory is no run, or a file cannot be written.
        DataError: there is no result, or one is damaged.
    """
    contents = read_contents(run_dir)
    folder = RunDir(contents.path)
    sources = read_results(folder, results)
    if not sources:
        raise DataError(f"{run_dir}: there are no results; measure the run with `palate eval` and name --results")
    headlines = _headlines(contents, sources)
    document = evaluation(contents, sources, headlines)
    written = document.write(output or folder.evaluation)
    card = write_model_card(
        folder.path,
        contents.run,
        contents.data,
        figures=[
            MeasuredFigure(
                dataset=one.measure,
                metric=one.metric,
                value=one.after.estimate,
                low=one.after.low,
                high=one.after.high,
                n=one.after.n,
                is_share=one.is_share,
            )
            for one in headlines
        ],
        results=table_markdown(headline_table(headlines)),
        limits=document.notes,
    )
    return [*written, card]


def evaluation(contents: RunContents, sources: Sequence[ResultFile], headlines: Sequence[Headline]) -> Document:
    """The document of results that were read."""
    sections = [_overview(headlines), *result_sections(sources, contents.name)]
    for number, source in enumerate(of_kind(sources, "accuracy")):
        with _complete(source):
            pairs = _pairs(contents, source)
            sections.append(accuracy_section(f"accuracy-{number}", pairs, source.facts))
            if lengths := margin_section(f"margins-{number}", pairs, source.facts):
                sections.append(lengths)
    sections.append(_measurement(sources))
    cards = [one.card() for one in headlines]
    return Document("evaluation", contents.name, subtitle(contents), cards, _notes(contents, sources), sections)


def result_sections(sources: Sequence[ResultFile], run: str) -> list[Section]:
    """The win rates and benchmarks among the results.

    Args:
        run: name of the run whose benchmarks are compared with those of the first model.

    Raises:
        DataError: a result is incomplete.
    """
    sections = []
    win_rates = of_kind(sources, "winrate")
    for source in win_rates:
        with _complete(source):  # each alone, so that a damaged one is named
            win_rate_section([source.facts])
    if win_rates:
        sections.append(win_rate_section([source.facts for source in win_rates]))
    for source in of_kind(sources, "bench"):
        with _complete(source):
            sections.append(benchmark_section(source, run))
    return sections


def measured_models(source: ResultFile) -> dict[str, Sequence[Any]]:
    """The models that a win rate or benchmark measures: name of the folder → hashes of the weights.

    Raises:
        DataError: the result is incomplete.
    """
    with _complete(source):
        if source.kind == "winrate":
            return {Path(side["name"]).name: side["identities"] for side in (source.facts["a"], source.facts["b"])}
        return {Path(one["source"]).name: [one["identity"]] for one in source.facts["models"]}


def _headlines(contents: RunContents, sources: Sequence[ResultFile]) -> list[Headline]:
    found: list[Headline | None] = []
    for source in sources:
        with _complete(source):
            if source.kind == "accuracy":
                found.append(accuracy_headline(source.facts, _pairs(contents, source)))
            elif source.kind == "winrate":
                found.append(win_rate_headline(source.facts))
            else:
                found += benchmark_headlines(source.facts, contents.name)
    return [one for one in found if one is not None]


@contextmanager
def _complete(source: ResultFile) -> Iterator[None]:
    """A context that names the file whose fields are missing or of another kind."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source.path}: is no complete result ({error}); measure again") from error


def _overview(headlines: Sequence[Headline]) -> Section:
    chart = change_chart(headlines)
    lines = [
        "Before: the model that training started from, or was compared with. Intervals are 95 %; grey ones contain 0, "
        "so these items do not show a change."
    ]
    charts = [("Change from before to after", chart)] if chart is not None else []
    return Section("overview", "Before and after", lines, charts, [("", headline_table(headlines))])


def _pairs(contents: RunContents, source: ResultFile) -> str:
    """`held-out pairs` of the run itself; of another file its name."""
    return "held-out pairs" if source.path.parent.resolve() == contents.path.resolve() else source.path.stem


def _notes(contents: RunContents, sources: Sequence[ResultFile]) -> list[str]:
    """What to know first: findings of the win rates, and results that name another model.

    Raises:
        DataError: two results measure different weights of the run.
    """
    notes = list(contents.problems)
    identities: dict[str, str] = {}
    for source in sources:
        if source.kind == "accuracy":
            continue
        named = measured_models(source)
        with _complete(source):
            if source.kind == "winrate":
                notes += win_rate_notes(source.facts)
            if contents.name not in named:
                notes.append(
                    f"{source.path.name}: measures {', '.join(named)}, none of which is called {contents.name}"
                )
            identities |= {str(one): str(source.path) for one in named.get(contents.name, ()) if one}
    if len(identities) > 1:
        raise DataError(
            f"the results measure different weights of {contents.name}: {' and '.join(identities.values())}; the "
            "run was trained again, so measure it again"
        )
    return list(dict.fromkeys(notes))


def _measurement(sources: Sequence[ResultFile]) -> Section:
    rows: list[Sequence[Cell]] = []
    for source in sources:
        facts = source.facts
        with _complete(source):
            data = ", ".join(f"{file['name']} {file['sha256'][:16]}" for file in facts.get("data", ()))
            models = facts.get("models", ())
            if source.kind == "winrate":
                data, models = f"judge {facts['judge']}", [facts["a"], facts["b"]]
            weights = ", ".join(
                f"{model['name']} {', '.join(filter(None, model.get('identities', [model.get('identity')])))}"
                for model in models
            )
            rows.append((source.path.name, source.kind, source.sha256[:16], weights or "–", data or "–"))
    columns = ("file", "kind", "SHA-256 of the file", "models with the hash of their weights", "data or judge")
    return Section("measurement", "Measurement", (), (), [("", Table(columns, rows))])
