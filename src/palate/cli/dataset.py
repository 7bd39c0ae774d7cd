"""The options of verbs that read a dataset, declared once; a verb gets them as one `DatasetRequest`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from typer import Argument, Option

from palate.charts.text import amount
from palate.cli.arguments import named_values, store_if_any
from palate.cli.console import print_note, print_progress
from palate.errors import UsageError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record, SourceReport

Datasets = Annotated[
    list[str], Argument(metavar="DATASET", help="Files, folders, hub ids, registered or built-in names.")
]
Prompts = Annotated[str, Argument(metavar="PROMPTS", help="A file, folder, hub id or registered dataset.")]
MaxDropped = Annotated[
    float, Option("--max-dropped", min=0, max=1, help="Largest share of unusable rows, ties included, before it fails.")
]
Workers = Annotated[
    int | None, Option("--workers", min=1, help="Processes; the result does not depend on it. Default: one per core.")
]

PROMPT_OPTIONS = ("dataset_dir", "column", "label", "split", "subset", "max_samples")
"""Parameters of `dataset_request` that matter where only prompts are read."""


def _option(*names: str, **settings: Any) -> Any:
    return Option(*names, rich_help_panel="Dataset options", **settings)


def dataset_request(
    dataset: DatasetSpec,
    *,
    dataset_dir: Annotated[
        str | None, _option("--dataset-dir", metavar="FOLDER", help="Folder whose dataset_info.json names datasets.")
    ] = "data",
    column: Annotated[
        list[str] | None, _option("--column", metavar="NAME=COLUMN", help="Your name of a column: prompt=question.")
    ] = None,
    label: Annotated[
        list[str] | None,
        _option("--label", metavar="VALUE=MEANING", help="Meaning of a label: 0=response_1, 2=tie or 1=desirable."),
    ] = None,
    split: Annotated[
        str | None, _option("--split", metavar="NAME", help="Split of a hub dataset or of a folder with splits.")
    ] = None,
    subset: Annotated[str | None, _option("--subset", metavar="NAME", help="Subset of a hub dataset.")] = None,
    max_samples: Annotated[
        int | None, _option("--max-samples", metavar="N", min=1, help="Read only the first rows of each source.")
    ] = None,
    prefer: Annotated[
        Literal["better", "safer", "both"],
        _option("--prefer", help="Which label decides if rows have one for helpfulness and one for safety."),
    ] = "better",
    ratings: Annotated[
        Literal["best_worst", "best_random", "all_pairs"],
        _option("--ratings", metavar="RULE", help="Pairs of rated answers: best_worst, best_random or all_pairs."),
    ] = "best_worst",
    min_margin: Annotated[
        float, _option("--min-margin", metavar="X", help="Smallest difference of two ratings that makes a pair.")
    ] = 0.0,
    seed: Annotated[int, _option("--seed", metavar="N", min=0, help="Random seed.")] = 0,
) -> DatasetRequest:
    """A dataset and its options as they are given on the command line."""
    return DatasetRequest(
        dataset,
        dataset_dir=dataset_dir,
        columns=named_values("--column", column, "NAME=COLUMN, as prompt=question", at_first=True) or None,
        split=split,
        subset=subset,
        max_samples=max_samples,
        labels=named_values("--label", label, "VALUE=MEANING, as 0=response_1"),
        prefer=prefer,
        ratings=ratings,
        min_margin=min_margin,
        seed=seed,
    )


def reads_dataset(
    dataset: Any,
    *,
    optional: bool = False,
    prompts_only: bool = False,
    only: Collection[str] = (),
    alone: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the options of a dataset, which it gets as its parameter `request`.

    An option that the verb declares itself stays the verb's own and is not part of the request.

    Args:
        dataset: the argument or option that names the dataset, as a Typer annotation.
        optional: whether the verb also works without one; then the request's `dataset` is "".
        prompts_only: whether the verb reads prompts only, so that options about answers are left out.
        only: names of the options that it has; none: all.
        alone: options that the verb also uses without a dataset; the others are refused then.
    """
    every = signature(dataset_request, eval_str=True).parameters
    wanted = PROMPT_OPTIONS if prompts_only else only or every
    shared = {
        name: option for name, option in every.items() if option.kind is Parameter.KEYWORD_ONLY and name in wanted
    }
    named = Parameter(
        "dataset", Parameter.KEYWORD_ONLY, annotation=dataset, default=None if optional else Parameter.empty
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(signature(command, eval_str=True).parameters)
        del own["request"]
        added = {name: option for name, option in shared.items() if name not in own}

        def verb(*, dataset: Any, **given: Any) -> None:
            choices = {name: given.pop(name) for name in added}
            if not dataset:
                _refuse_unread({name: choices[name] for name in added if name not in alone}, added)
            command(request=dataset_request(dataset or "", **choices), **given)

        options = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in (*own.values(), *added.values())]
        verb.__signature__ = Signature([named, *options])  # type: ignore[attr-defined]  # what Typer makes options of
        verb.__doc__ = command.__doc__
        return verb

    return decorate


def _refuse_unread(choices: Mapping[str, Any], options: Mapping[str, Parameter]) -> None:
    """Refuses options of a dataset where none is named: they would change nothing."""
    unread = [
        f"--{name.replace('_', '-')}"
        for name, value in choices.items()
        if value != options[name].default and value not in ([], ())
    ]
    if unread:
        raise UsageError(
            f"{', '.join(unread)}: no dataset is named, so this changes nothing; name one, or leave it out"
        )


def read_prompts(request: DatasetRequest) -> tuple[list[Record], list[Dropped]]:
    """The prompts of a dataset, and rows without one; what is not read is listed on stderr."""
    from palate.data.prompts import load_prompts, unread_columns

    prompts, dropped = load_prompts(request)
    unread = unread_columns(prompts)
    if unread:
        print_note(f"only the prompts are read; left unread: {', '.join(unread)}")
    for row in dropped[:3]:
        print_note(f"{row.id}: {row.reason} ({row.detail})")
    if len(dropped) > 3:
        print_note(f"{amount(len(dropped), 'row')} without a prompt in all")
    return prompts, dropped


def print_labels(reports: Iterable[SourceReport]) -> None:
    """How each source's labels were read, on stderr."""
    for report in reports:
        if report.labels:
            print_progress(f"{report.path}: {report.labels}")


Exclude: TypeAlias = Annotated[
    list[Path] | None,
    Option("--exclude", metavar="FILE", help="Evaluation data that must not be trained on; repeatable."),
]
KeepEvaluation: TypeAlias = Annotated[
    bool, Option("--keep-evaluation", help="Keep rows that loops and gates of the store evaluate with.")
]


def held_out_files(given: Sequence[Path] | None, keep: bool, store: str | None = None) -> list[Path]:
    """The files of `--exclude`, and without `keep` those that the store's loops and gates evaluate with."""
    from palate.registry.evaluations import known_evaluations

    named = {path.resolve() for path in given or ()}
    with nullcontext() if keep else store_if_any(store) as opened:
        known, gone = ([], []) if opened is None else opened.read(known_evaluations)
    known = [path for path in known if path not in named]
    if known:
        print_note(f"left out: prompts of {_names(known)}, which evaluate models (--keep-evaluation keeps them)")
    if gone:
        print_note(f"not left out: prompts of {_names(gone)}, which evaluated models; the files are gone")
    return [*(given or ()), *known]


def _names(paths: Sequence[Path]) -> str:
    here = Path.cwd()
    return ", ".join(str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths)
