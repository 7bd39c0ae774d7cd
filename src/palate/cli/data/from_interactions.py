"""`palate data from-interactions`: what the gateway recorded as training data and candidates for labelling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from palate.cli.arguments import StoreUrl, named_numbers, opened_store, with_options
from palate.cli.console import print_done, print_note
from palate.cli.dataset import Exclude, KeepEvaluation, held_out_files
from palate.cli.serve.interactions import read_filter
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.serving.recording.listing import Filter


@with_options("wanted", read_filter, without=("state", "thumbs", "route"))
def from_interactions_command(
    wanted: Filter,
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    share_per_user: Annotated[
        float, Option("--share-per-user", min=0, max=1, help="Largest share of one person's rows in a file.")
    ] = 0.01,
    sample: Annotated[int, Option("--sample", min=0, help="Candidates to draw for labelling.")] = 0,
    shares: Annotated[
        list[str] | None,
        Option("--share", metavar="STRATUM=S", help="Of uniform (0.5), judge_uncertain (0.25), thumbs_down (0.25)."),
    ] = None,
    exclude: Exclude = None,
    keep_evaluation: KeepEvaluation = False,
    seed: Annotated[int, Option("--seed", min=0, help="Random seed of the draws.")] = 0,
    store: StoreUrl = None,
) -> None:
    """Write thumbs as KTO rows, edits and choices as pairs, and a sample of interactions for labelling.

    Only interactions with consent whose answer is complete are used; everything left out is counted.

    Example: palate data from-interactions -o collected --exclude test.jsonl
    """
    from palate.serving.from_interactions import Options, from_interactions
    from palate.serving.from_interactions.draw import SHARES

    given = named_numbers("--share", shares, "STRATUM=SHARE, as uniform=0.5")
    unknown = next((name for name in given if name not in SHARES), None)
    if unknown is not None or any(value < 0 for value in given.values()):
        raise UsageError(f"--share: names {', '.join(SHARES)}, and shares of 0 or more")
    if given and not sum({**SHARES, **given}.values()) > 0:
        raise UsageError("--share: all shares are 0; give one that is not")
    options = Options(
        filter=wanted,
        share_per_user=share_per_user,
        sample=sample,
        shares={**SHARES, **given},
        exclude=held_out_files(exclude, keep_evaluation, store),
        seed=seed,
    )
    with opened_store(store) as opened:
        done = from_interactions(opened, output, options)
    lines = [
        f"folder               {done.output}",
        f"interactions         {done.interactions:,}, {done.usable:,} usable",
    ]
    for name, count in done.files.items():
        most = f", at most {done.caps[name]:,} of a person" if name in done.caps else ""
        lines.append(f"{name:<20} {count:,} rows{most}")
    lines += [f"  {name:<18} {count:,}" for name, count in done.sources.items()]
    lines += [f"left out             {count:,} {reason}" for reason, count in done.left_out.items()]
    print_done("\n".join(lines), done)
    if any(name.endswith("_over_cap_of_person") for name in done.left_out) and done.people * share_per_user < 1:
        most = f"at most {share_per_user:.0%} of the rows"
        print_note(f"{done.people:,} people cannot each have {most}, so each has 1; raise --share-per-user")
