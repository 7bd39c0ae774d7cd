"""`palate data`: know and shape what is trained on, before it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson, verb_group
from palate.cli.columns import text_width, wrapped
from palate.cli.console import note, result, result_json
from palate.cli.data.arguments import (
    Columns,
    DatasetDir,
    Datasets,
    Labels,
    MaxSamples,
    MinMargin,
    Prefer,
    Ratings,
    Seed,
    Split,
    Subset,
    Workers,
    chosen_columns,
    chosen_reading,
    say_labels,
)
from palate.cli.data.augment import augment_command
from palate.cli.data.margins import margins_command
from palate.cli.data.mix import mix_command
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.data.curate import Embedder, Rule

# Rows that a page lists for each problem.
_LISTED = 50

app = typer.Typer(
    cls=verb_group("data"),
    help="Inspect, convert, curate, split, mix and augment datasets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("inspect")
def inspect_command(
    datasets: Datasets,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model or run whose tokenizer counts tokens.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template by name.")] = None,
    cutoff_len: Annotated[int, typer.Option("--cutoff-len", min=2, help="Longest row of training, in tokens.")] = 2048,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Evaluation data that must not be trained on.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Also write a page.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, help="Rows to show for each problem.")] = 2,
    rows: Annotated[int, typer.Option("--rows", min=0, help="First rows to show on the page.")] = 200,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    prefer: Prefer = "better",
    ratings: Ratings = "best_worst",
    min_margin: MinMargin = 0.0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Say what a dataset holds and what is wrong with it: shape, languages, lengths, biases, duplicates, leaks."""
    reading = chosen_reading(prefer, ratings, min_margin, labels=label)

    from palate.data.inspect import as_text, inspect_dataset
    from palate.data.parallel import all_cores

    if output is not None:
        from palate.data.outputs import check_output_file
        from palate.data.sources.spec import find_sources

        check_output_file(output, find_sources(datasets, dataset_dir=dataset_dir, split=split, subset=subset))
    count_tokens = render = None
    if model is not None:
        count_tokens, render = _counting(model, template)
    found = inspect_dataset(
        datasets,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        reading=reading,
        count_tokens=count_tokens,
        render=render,
        cutoff_len=cutoff_len,
        against=against or None,
        workers=workers or all_cores(),
        samples=max(samples, 5 if output is None else _LISTED),
        rows=rows if output is not None else 0,
    )
    if output is not None:
        from palate.artifacts import write_text
        from palate.report.pages.inspection import inspection_page

        write_text(output, inspection_page(found, ", ".join(Path(name).name for name in datasets)))
    if as_json:
        result_json(found.as_json())
    else:
        text = as_text(found, samples=samples) + (f"\npage                {output}\n" if output else "")
        result(wrapped(text, hang=20, width=text_width()))


def _counting(model: str, template: str | None) -> tuple[Any, Any]:
    """How a model's tokenizer counts, and how its template renders."""
    from palate.models.load import load_tokenizer
    from palate.text.template import load_template

    rendering = load_template(load_tokenizer(model), template)
    return lambda texts: [len(encoding.ids) for encoding in rendering.tokenize(texts)], rendering.render


@app.command("convert")
def convert_command(
    datasets: Datasets,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help=".jsonl, .json, .csv, .tsv (.gz, .zst), .parquet, .arrow."),
    ],
    to: Annotated[str, typer.Option("--to", help="palate, trl, llamafactory, openai, kto or ranked.")] = "palate",
    kind: Annotated[
        str | None, typer.Option("--kind", help="pairs, demonstrations, labelled_completions, rankings …")
    ] = None,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    prefer: Prefer = "better",
    ratings: Ratings = "best_worst",
    min_margin: MinMargin = 0.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write a dataset in another format; every row is written or listed, and what does not fit is named."""
    reading = chosen_reading(prefer, ratings, min_margin, seed, label)

    from palate.data.convert import convert

    done = convert(
        datasets,
        output,
        to=to,
        kind=kind,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        reading=reading,
    )
    if as_json:
        from dataclasses import asdict

        result_json(asdict(done))
        return
    say_labels(done.sources)
    kinds = ", ".join(f"{count:,} {name}" for name, count in done.kinds.items())
    lines = [f"{done.output}: {kinds} as {done.to}"]
    for drop in done.left_out[:5]:
        lines.append(f"  left out  {drop.id}: {drop.reason}{': ' if drop.detail else ''}{drop.detail}")
    if len(done.left_out) > 5:
        lines.append(f"  left out  {len(done.left_out):,} rows in all; {done.output}.data.json lists every one")
    for name, rows in done.loses.items():
        note(f"{done.to} has no place for {name} ({rows:,} rows had it)")
    result("\n".join(lines))


@app.command("curate")
def curate_command(
    datasets: Annotated[list[str] | None, typer.Argument(metavar="DATASET...", help="As for inspect.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for kept.jsonl, rejected.jsonl, funnel.svg."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="RULES.yaml", help="YAML file with preset:, without: and rules:.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="strong or clean.")] = None,
    list_rules: Annotated[bool, typer.Option("--list-rules", help="Print every rule with its defaults.")] = False,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    prefer: Prefer = "better",
    ratings: Ratings = "best_worst",
    min_margin: MinMargin = 0.0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Keep the rows worth training on, by rules; nothing is lost: what is left out lies beside, with its reason."""
    reading = chosen_reading(prefer, ratings, min_margin, labels=label)

    from palate.data.curate import curate, read_rules
    from palate.data.curate.funnel import funnel_table
    from palate.data.curate.rules import rules_help
    from palate.data.parallel import all_cores

    if list_rules:
        result(rules_help())
        return
    if not datasets or output is None:
        raise UsageError("name a dataset and --output FOLDER (or --list-rules)")
    chosen_rules = read_rules(rules, preset=preset)
    done = curate(
        datasets,
        output,
        chosen_rules,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        reading=reading,
        workers=workers or all_cores(),
        embed=_embedder(chosen_rules),
    )
    if as_json:
        from dataclasses import asdict

        result_json(asdict(done))
        return
    say_labels(done.sources)
    result(f"{funnel_table(done.steps)}\n{done.kept:,} rows kept in {done.output / 'kept.jsonl'}, the others beside\n")


def _embedder(rules: Sequence[Rule]) -> Embedder | None:
    """What makes sentence vectors, if a rule asks for any."""
    from palate.data.curate import EmbeddingDifference

    asking = next((rule for rule in rules if isinstance(rule, EmbeddingDifference)), None)
    if asking is None:
        return None
    from palate.models.embeddings import SentenceEmbedder

    return SentenceEmbedder(asking.model or None)


@app.command("split")
def split_command(
    datasets: Datasets,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for train.jsonl and the parts.")
    ],
    parts: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="NAME=SIZE", help="A held-out part: a share below 1, or a number of rows."),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option("--threshold", min=0.1, max=1, help="Similarity at which two prompts stay in the same part."),
    ] = 0.8,
    seed: Seed = 0,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    prefer: Prefer = "better",
    ratings: Ratings = "best_worst",
    min_margin: MinMargin = 0.0,
    as_json: AsJson = False,
) -> None:
    """Hold data out by clusters of alike prompts, so that no prompt is on both sides, in every source alike."""
    reading = chosen_reading(prefer, ratings, min_margin, seed, label)
    sizes: dict[str, float] = {}
    for part in parts or ["validation=0.05"]:
        name, _, size = part.partition("=")
        try:
            sizes[name.strip()] = float(size)
        except ValueError:
            raise UsageError(f"--part {part}: write NAME=SIZE, as validation=0.05 or test=500") from None

    from palate.data.split_files import split_files

    done = split_files(
        datasets,
        output,
        sizes,
        threshold=threshold,
        seed=seed,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        reading=reading,
    )
    if as_json:
        from dataclasses import asdict

        result_json(asdict(done))
        return
    say_labels(done.sources)
    lines = [f"{done.clusters:,} clusters of prompts"]
    for name, by_source in done.counts.items():
        rows = ", ".join(f"{source} {count:,}" for source, count in by_source.items())
        lines.append(f"{sum(by_source.values()):>9,}  {done.output / (name + '.jsonl')}  ({rows})")
    if done.left_out:
        lines.append(f"{len(done.left_out):>9,}  rows cannot be used; data.json lists them")
    result("\n".join(lines))


app.command("augment")(augment_command)
app.command("mix")(mix_command)
app.command("margins")(margins_command)
