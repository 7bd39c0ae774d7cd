"""`palate eval frontier`: true reward against KL to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from palate.cli.arguments import CutoffLen, MaxNewTokens, PrecisionName, SamplingSeed, TemplateName
from palate.cli.columns import table, wrapped
from palate.cli.console import print_done, print_note, print_progress
from palate.cli.dataset import read_prompts, reads_dataset
from palate.cli.generate import K
from palate.cli.models import model_path, model_paths
from palate.errors import UsageError
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.evaluation.frontier import Frontier
    from palate.records import RewardFunction

Models = Annotated[
    list[str], Argument(metavar="RUN|CHECKPOINT|MODEL", help="Finished runs, checkpoint folders, any models.")
]
Prompts = Annotated[str, Option("--prompts", help="A file, folder, hub id or registered dataset to answer.")]
RewardNames = Annotated[
    list[str],
    Option(
        "--reward",
        metavar="REWARD",
        help="length:…, lexicon:…, module:function, file.py:function or a reward model's folder; may be given again.",
    ),
]
Reference = Annotated[str | None, Option("--reference", help="Reference of the KL. Default: the runs' own reference.")]
Checkpoints = Annotated[bool, Option("--checkpoints", help="Also every complete checkpoint of each run.")]
XScale = Annotated[Literal["sqrt", "linear", "log"], Option("--x-scale", help="Scale of the figure's KL axis.")]
Output = Annotated[
    Path | None, Option("--output", "-o", metavar="FOLDER", help="Folder for figures, answers and the page.")
]


@reads_dataset(Prompts, prompts_only=True)
def command(
    models: Models,
    request: DatasetRequest,
    reward: RewardNames,
    reference: Reference = None,
    checkpoints: Checkpoints = False,
    k: K = 4,
    max_new_tokens: MaxNewTokens = 128,
    seed: SamplingSeed = 42,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    cutoff_len: CutoffLen = 2048,
    x_scale: XScale = "sqrt",
    output: Output = None,
) -> None:
    """Reward against KL to the reference, for runs, their checkpoints and other models: a figure and a table.

    Example: palate eval frontier runs/dpo --prompts p.jsonl --reward runs/rm
    """
    from palate.evaluation.frontier import frontier_models, measure_frontier
    from palate.report.pages.frontier import check_folder, write_frontier

    if output is not None:
        check_folder(output)
    asked, _ = read_prompts(request)
    points, base = frontier_models(
        model_paths(models), reference=model_path(reference), with_checkpoints=checkpoints, template=template
    )
    found = measure_frontier(
        points,
        base,
        asked,
        _rewards(reward, precision),
        samples=k,
        max_new_tokens=max_new_tokens,
        seed=seed,
        precision=precision,
        cutoff_len=cutoff_len,
        kept_in=output.with_name(f"{output.name}.partial") if output is not None else None,
        on_progress=print_progress,
    )
    _note_left_out(found, len(asked), cutoff_len)
    facts = {**found.to_json(), "prompts_from": request.dataset}
    if output is not None:
        rows = [{**row, "prompt_id": asked[row["prompt"]].id} for row in found.answer_rows()]
        write_frontier(output, facts, rows, x_scale=x_scale)
        print_progress(f"report    {output / 'report.html'}")
    print_done(_table(facts), facts)


def _rewards(names: list[str], precision: str) -> dict[str, RewardFunction]:
    from palate.models.precision import default_device, resolve
    from palate.models.reward_model import load_reward

    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--reward {twice} is named twice")
    how = resolve(precision, default_device())
    return {name: load_reward(name, "--reward", precision=how) for name in names}


def _note_left_out(found: Frontier, prompts: int, cutoff_len: int) -> None:
    """Answers without a reward and prompts that are too long, on stderr."""
    for point in found.points:
        for name, count in point.unscored.items():
            if count:
                print_note(f"{point.name}: {name} gave no score to {count} of {found.prompts * found.samples} answers")
    if found.left_out:
        print_note(f"{found.left_out} of {prompts} prompts are left out, too long for --cutoff-len {cutoff_len}")


def _table(facts: dict[str, Any]) -> str:
    """Estimates ± half their intervals."""
    from palate.artifacts import plain
    from palate.report.pages.frontier import half_width

    known = plain(facts)
    names = ["point", *known["rewards"], "KL", "ended", "distinct", "tokens"]
    rows = []
    for point in known["points"]:
        intervals = [*(point["rewards"][name] for name in known["rewards"]), point["kl"]]
        shares = [f"{100 * point[name]['estimate']:.0f} %" for name in ("ended", "distinct")]
        rows.append([point["name"], *map(half_width, intervals), *shares, f"{point['tokens']['estimate']:.1f}"])
    heading = wrapped("reward against KL, nats per answer (± 95 % over prompts)", hang=2)
    return f"{heading}\n\n{table(names, rows, right=range(1, len(names)))}"
