"""`palate eval frontier`: true reward against KL to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.columns import table, text_width, wrapped
from palate.cli.console import note, note_unread, result, result_json, say
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.charts.scale import ScaleName
    from palate.records import RewardFunction

_X_SCALES: dict[str, ScaleName] = {"sqrt": "sqrt", "linear": "linear", "log": "log"}

Models = Annotated[
    list[str], typer.Argument(metavar="RUN|CHECKPOINT|MODEL...", help="Finished runs, checkpoint folders, any models.")
]
Prompts = Annotated[str, typer.Option("--prompts", help="A file, folder, hub id or registered dataset to answer.")]
RewardNames = Annotated[
    list[str],
    typer.Option(
        "--reward",
        metavar="REWARD",
        help="length:…, lexicon:…, module:function, file.py:function or a reward model's folder; may be given again.",
    ),
]
Reference = Annotated[
    str | None, typer.Option("--reference", help="Reference of the KL; default: the runs' own reference.")
]
Checkpoints = Annotated[bool, typer.Option("--checkpoints", help="Also every complete checkpoint of each run.")]
K = Annotated[int, typer.Option("--k", "-k", min=1, help="Answers to each prompt.")]
Tokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0, help="Must be 1: the KL is that of the sampled distribution.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed; an answer depends only on it and on its own prompt.")]
MaxSamples = Annotated[int | None, typer.Option("--max-samples", min=1, help="Use only the first prompts.")]
DatasetDir = Annotated[str | None, typer.Option("--dataset-dir", help="Folder whose dataset_info.json names datasets.")]
TemplateName = Annotated[str | None, typer.Option("--template", help="Chat template by name, for bare models.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")]
CutoffLen = Annotated[int, typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens.")]
XScaleName = Annotated[str, typer.Option("--x-scale", help="Scale of the figure's KL axis: sqrt, linear or log.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for numbers, answers and the page.")
]


def command(
    models: Models,
    prompts: Prompts,
    reward: RewardNames,
    reference: Reference = None,
    checkpoints: Checkpoints = False,
    k: K = 4,
    max_new_tokens: Tokens = 128,
    temperature: Temperature = 1.0,
    seed: Seed = 42,
    max_samples: MaxSamples = None,
    dataset_dir: DatasetDir = "data",
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    cutoff_len: CutoffLen = 2048,
    x_scale: XScaleName = "sqrt",
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Reward against KL to the reference, of runs, their checkpoints and other models; a figure and a table."""
    if x_scale not in _X_SCALES:
        raise UsageError(f"--x-scale {x_scale}: is not one of sqrt, linear, log")
    if temperature != 1:
        raise UsageError(
            f"--temperature {temperature:g}: the KL is that of the models themselves, sampled at 1; leave it"
        )

    from palate.data.prompts import load_prompts, unread_columns
    from palate.evaluation.frontier import frontier_models, measure_frontier
    from palate.report.pages.frontier import check_folder, write_frontier

    if output is not None:
        check_folder(output)
    asked, dropped = load_prompts(prompts, dataset_dir=dataset_dir, max_samples=max_samples)
    note_unread(unread_columns(asked))
    for row in dropped[:3]:
        note(f"{row.id}: {row.reason} ({row.detail})")
    if len(dropped) > 3:
        note(f"{len(dropped)} rows in all have no prompt")
    points, base = frontier_models(models, reference=reference, with_checkpoints=checkpoints, template=template)
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
        say=say,
    )
    for point in found.points:
        for name, count in point.unscored.items():
            if count:
                note(f"{point.name}: {name} gave no score to {count} of {found.prompts * found.samples} answers")
    if found.left_out:
        note(f"{found.left_out} of {len(asked)} prompts are left out, too long for --cutoff-len {cutoff_len}")
    facts = {**found.to_json(), "prompts_from": prompts}
    if output is not None:
        rows = [{**row, "prompt_id": asked[row["prompt"]].id} for row in found.answer_rows()]
        write_frontier(output, facts, rows, x_scale=_X_SCALES[x_scale])
        say(f"report    {output / 'report.html'}")
    if as_json:
        result_json(facts)
    else:
        result(_table(facts, text_width()))


def _rewards(names: list[str], precision: str) -> dict[str, RewardFunction]:
    from palate.models.precision import default_device, resolve
    from palate.models.reward.model import load_reward

    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--reward {twice} is named twice")
    how = resolve(precision, default_device())
    return {name: load_reward(name, "--reward", precision=how) for name in names}


def _table(facts: dict[str, Any], width: int | None) -> str:
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
    heading = wrapped("reward against KL, nats per answer (± 95 % over prompts)", hang=2, width=width)
    return f"{heading}\n\n{table(names, rows, right=range(1, len(names)), width=width)}"
