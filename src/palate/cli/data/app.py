"""`palate data`: inspect and prepare datasets before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, Typer

from palate.charts.text import amount
from palate.cli.arguments import CutoffLen, TemplateName, named_numbers, verb_group
from palate.cli.columns import wrapped
from palate.cli.console import print_done, print_note
from palate.cli.data.augment import augment_command
from palate.cli.data.from_interactions import from_interactions_command
from palate.cli.data.margins import margins_command
from palate.cli.data.mix import join_command, mix_command
from palate.cli.dataset import Datasets, Workers, print_labels, reads_dataset
from palate.cli.models import model_path
from palate.errors import UsageError
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.data.curate import Embedder, Rule

_LISTED = 50
"""Rows that a page lists for each problem."""

app = Typer(
    cls=verb_group("data"),
    help="Inspect, convert, curate, split, mix, augment and join datasets.\n\nExample: palate data inspect pairs.jsonl",
    no_args_is_help=True,
)


@app.command("inspect")
@reads_dataset(Datasets)
def inspect_command(
    request: DatasetRequest,
    model: Annotated[str | None, Option("--model", "-m", help="Model or run whose tokenizer counts tokens.")] = None,
    template: TemplateName = None,
    cutoff_len: CutoffLen = 2048,
    against: Annotated[
        list[str] | None, Option("--against", help="Evaluation data that must not be trained on.")
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE.html", help="Also write an HTML page.")
    ] = None,
    samples: Annotated[int, Option("--samples", min=0, help="Rows to show for each problem.")] = 2,
    rows: Annotated[int, Option("--rows", min=0, help="First rows to show on the page.")] = 200,
    workers: Workers = None,
) -> None:
    """Describe a dataset and its problems: format, languages, lengths, biases, duplicates, leaks.

    Example: palate data inspect pairs.jsonl --against test.jsonl -o page.html
    """
    from palate.data.contract import check_output_file
    from palate.data.inspect import as_text, inspect_dataset
    from palate.data.parallel import all_cores
    from palate.data.sources.spec import find_sources

    if output is not None:
        check_output_file(output, find_sources(request))
    count_tokens, render = (None, None) if model is None else _tokenizer(model, template)
    found = inspect_dataset(
        request,
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

        write_text(output, inspection_page(found, ", ".join(Path(name).name for name in request.dataset)))
    text = as_text(found, samples=samples) + (f"\npage                {output}\n" if output else "")
    print_done(wrapped(text, hang=20), found.as_json())


def _tokenizer(model: str, template: str | None) -> tuple[Any, Any]:
    """How a model's tokenizer counts, and how its template renders."""
    from palate.models.loading.load import load_tokenizer
    from palate.text.template import load_template

    rendering = load_template(load_tokenizer(model_path(model)), template)
    return lambda texts: [len(encoding.ids) for encoding in rendering.tokenize(texts)], rendering.render


@app.command("convert")
@reads_dataset(Datasets)
def convert_command(
    request: DatasetRequest,
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE", help=".jsonl, .json, .csv, .tsv (.gz, .zst), .parquet, .arrow.")
    ],
    to: Annotated[str, Option("--to", help="palate, trl, llamafactory, openai, kto or ranked.")] = "palate",
    kind: Annotated[
        str | None, Option("--kind", help="pairs, demonstrations, labelled_completions, rankings …")
    ] = None,
) -> None:
    """Write a dataset in another format; rows and columns that do not fit are listed.

    Example: palate data convert pairs.csv --to trl --output pairs.jsonl
    """
    from palate.data.convert import convert

    done = convert(request, output, to=to, kind=kind)
    print_labels(done.sources)
    kinds = ", ".join(amount(count, name.removesuffix("s")) for name, count in done.kinds.items())
    lines = [f"{done.output}: {kinds} as {done.to}"]
    lines += [f"  left out  {one.id}: {': '.join(filter(None, (one.reason, one.detail)))}" for one in done.left_out[:5]]
    if len(done.left_out) > 5:
        lines.append(f"  left out  {len(done.left_out):,} rows in all; {done.output}.data.json lists every one")
    for name, rows in done.loses.items():
        print_note(f"{done.to} cannot hold {name} ({amount(rows, 'row')} had it)")
    print_done("\n".join(lines), done)


@app.command("curate")
@reads_dataset(Annotated[list[str] | None, Argument(metavar="DATASET", help="As for inspect.")], optional=True)
def curate_command(
    request: DatasetRequest,
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="FOLDER", help="Folder for kept.jsonl, rejected.jsonl, funnel.svg."),
    ] = None,
    rules: Annotated[
        Path | None, Option("--rules", metavar="RULES.yaml", help="YAML file with preset:, without: and rules:.")
    ] = None,
    preset: Annotated[str | None, Option("--preset", help="strong or clean.")] = None,
    list_rules: Annotated[bool, Option("--list-rules", help="Print every rule with its defaults.")] = False,
    workers: Workers = None,
) -> None:
    """Filter a dataset by rules; rejected rows are written to a second file with the reason.

    Example: palate data curate pairs.jsonl --preset strong --output curated
    """
    from palate.data.curate import curate, read_rules
    from palate.data.curate.funnel import funnel_table
    from palate.data.curate.rules import PRESETS, RULES, rules_help
    from palate.data.parallel import all_cores

    if list_rules:
        schemas = {name: rule.model_json_schema() for name, rule in RULES.items()}
        print_done(rules_help(), {"rules": schemas, "presets": PRESETS})
        return
    if not request.dataset or output is None:
        raise UsageError("name a dataset and --output FOLDER (or --list-rules)")
    chosen_rules = read_rules(rules, preset=preset)
    done = curate(request, output, chosen_rules, workers=workers or all_cores(), embed=_embedder(chosen_rules))
    print_labels(done.sources)
    kept = f"{amount(done.kept, 'row')} kept in {done.output / 'kept.jsonl'}, the others in rejected.jsonl"
    print_done(f"{funnel_table(done.steps)}\n{kept}", done)


def _embedder(rules: Sequence[Rule]) -> Embedder | None:
    """The model that makes sentence vectors, if a rule needs one."""
    from palate.data.curate import EmbeddingDifference

    asking = next((rule for rule in rules if isinstance(rule, EmbeddingDifference)), None)
    if asking is None:
        return None
    from palate.models.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(asking.model or None)


@app.command("split")
@reads_dataset(Datasets)
def split_command(
    request: DatasetRequest,
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder for train.jsonl and the parts.")],
    parts: Annotated[
        list[str] | None,
        Option("--part", metavar="NAME=SIZE", help="A held-out part: a share below 1, or a number of rows."),
    ] = None,
    threshold: Annotated[
        float, Option("--threshold", min=0.1, max=1, help="Similarity at which two prompts stay in the same part.")
    ] = 0.8,
) -> None:
    """Split a dataset into training and held-out files by clusters of similar prompts, so that no prompt is in both.

    Example: palate data split pairs.jsonl --part validation=0.05 -o split
    """
    sizes = named_numbers("--part", parts or ["validation=0.05"], "NAME=SIZE, as validation=0.05 or test=500")

    from palate.data.split_files import split_files

    done = split_files(request, output, sizes, threshold=threshold)
    print_labels(done.sources)
    lines = [f"{amount(done.clusters, 'cluster')} of prompts"]
    for name, by_source in done.counts.items():
        rows = ", ".join(f"{source} {count:,}" for source, count in by_source.items())
        lines.append(f"{sum(by_source.values()):>9,}  {done.output / (name + '.jsonl')}  ({rows})")
    if done.left_out:
        lines.append(f"{len(done.left_out):>9,}  rows cannot be used; data.json lists them")
    print_done("\n".join(lines), done)


app.command("mix")(mix_command)
app.command("augment")(augment_command)
app.command("from-interactions")(from_interactions_command)
app.command("margins")(margins_command)
app.command("join")(join_command)
