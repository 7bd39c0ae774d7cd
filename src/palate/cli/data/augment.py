"""`palate data augment`: more pairs, each marked with how it was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import BaseUrl, MaxNewTokens, named_numbers, two_names
from palate.cli.console import print_done
from palate.cli.data.augment_models import FromPrompts, SeededModel, augment_from_prompts
from palate.cli.dataset import Datasets, MaxDropped, reads_dataset
from palate.cli.generate import Temperature
from palate.cli.models import model_path
from palate.errors import UsageError
from palate.evaluation.answers.answerer import load_answerer
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.data.augment import AugmentModels


Output = Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder for augmented.jsonl and data.json.")]
Add = Annotated[
    list[str] | None, Option("--add", metavar="KIND=SIZE", help="Rows to add, as dropped_end=0.1 or sampled=500.")
]
Aim = Annotated[list[str] | None, Option("--aim", help="A gap to fill: accuracy, helpfulness or safety.")]
PlanFile = Annotated[
    Path | None, Option("--plan", metavar="PLAN.yaml", help="YAML file with kinds: and all other settings.")
]
Share = Annotated[float, Option("--share", min=0, max=1, help="New rows for --aim, as a share of the rows read.")]
MaxShare = Annotated[float, Option("--max-share", min=0, help="Most new rows, as a share of the rows read.")]
MaxOfKind = Annotated[
    float, Option("--max-of-kind", min=0, max=1, help="Largest share of the new rows that is of one kind.")
]
Models = Annotated[
    list[str] | None,
    Option("--model", "-m", help="Model that samples answers. Of several, the first paraphrases and revises."),
]
JudgeSpec = Annotated[
    str | None, Option("--judge", help="As for palate judge: a rule, a function, a reward model's folder.")
]
K = Annotated[int, Option("--k", "-k", min=2, help="Answers to sample for each prompt.")]
By = Annotated[
    Literal["best_worst", "margin"],
    Option("--by", help="Pairs of sampled answers; margin: the best and the nearest worse one."),
]
MinMargin = Annotated[float, Option("--min-margin", help="Smallest difference of two scores that makes a pair.")]

Delta = Annotated[
    tuple[str, str] | None,
    Option(
        "--delta",
        metavar="STRONG WEAK",
        callback=two_names,
        help="Pairs from prompts: STRONG's answer over WEAK's. Runs, folders, NAME@URL, or names at --base-url.",
    ),
]
Critique = Annotated[
    str | None,
    Option(
        "--critique", metavar="MODEL", help="Pairs from prompts: MODEL criticises an answer and revises it (chosen)."
    ),
]
Principles = Annotated[
    str, Option("--principles", metavar="FILE", help="For --critique: text or YAML file, or builtin.")
]
GapsFile = Annotated[
    Path | None,
    Option("--gaps", metavar="INSPECT.json", help="For --delta and --critique: fill what `inspect --json` calls rare."),
]


@reads_dataset(Datasets)
def augment_command(
    request: DatasetRequest,
    output: Output,
    add: Add = None,
    aim: Aim = None,
    plan_file: PlanFile = None,
    share: Share = 0.2,
    max_share: MaxShare = 0.5,
    max_of_kind: MaxOfKind = 1.0,
    models: Models = None,
    base_url: BaseUrl = None,
    judge: JudgeSpec = None,
    delta: Delta = None,
    critique: Critique = None,
    principles: Principles = "builtin",
    gaps: GapsFile = None,
    k: K = 4,
    by: By = "best_worst",
    min_margin: MinMargin = 0.0,
    temperature: Temperature = 1.0,
    max_new_tokens: MaxNewTokens = 256,
    max_dropped: MaxDropped = 0.5,
) -> None:
    """Add pairs to a dataset (old rows stay unchanged), or make pairs of prompts by --delta or --critique.

    Example: palate data augment pairs.jsonl --add dropped_end=0.1 -o augmented
    """
    if sum(map(bool, (add, aim, plan_file, delta, critique))) != 1:
        raise UsageError(
            "say what to make: --add KIND=SIZE, --aim at a gap, --plan PLAN.yaml, --delta STRONG WEAK, or "
            "--critique MODEL"
        )
    if delta is not None or critique is not None:
        if models and (delta is not None or len(models) > 1):
            raise UsageError("--delta and --critique name their models; --model only names who answers for --critique")
        writer = models[0] if models else None
        asked = FromPrompts(delta, critique, writer, principles, gaps, base_url, judge, temperature, max_new_tokens)
        augment_from_prompts(request, output, asked)
        return
    if gaps is not None:
        raise UsageError("--gaps is for --delta and --critique; use --aim for pairs")

    from palate.data.augment import AugmentPlan, augment, read_plan

    options: dict[str, Any] = {"max_share": max_share, "max_of_kind": max_of_kind, "seed": request.seed}
    options |= {"k": k, "by": by, "min_margin": min_margin}
    if plan_file is not None:
        plan = read_plan(plan_file)
    elif aim:
        plan = AugmentPlan.aimed(aim, share, **options)
    else:
        plan = AugmentPlan(named_numbers("--add", add, "KIND=SIZE, as dropped_end=0.1 or sampled=500"), **options)
    samplers = {
        name: SeededModel(load_answerer(name if base_url else model_path(name), base_url), temperature, max_new_tokens)
        for name in models or []
    }
    request = replace(request, max_dropped=max_dropped)
    done = augment(request, output, plan, _augment_models(samplers, judge))
    lines = [f"{done.read:>9,}  rows as they were"]
    lines += [f"{count:>9,}  {kind}" for kind, count in done.made.items()]
    for kind, reasons in done.not_made.items():
        why_not = ", ".join(f"{amount(n, 'row')}: {why}" for why, n in reasons.items())
        lines.append(f"{'':>9}  {kind} not made of {why_not}")
    print_done("\n".join([*lines, str(done.output / "augmented.jsonl")]), done)


def _augment_models(samplers: dict[str, SeededModel], judge: str | None) -> AugmentModels:
    """The models that sample, of which the first also rewrites, and the judge."""
    from palate.data.augment import AugmentModels

    models = AugmentModels()
    if samplers:
        (name, sampler), *others = samplers.items()
        models = AugmentModels(sampler, name, others=dict(others))
    if judge is not None:
        from palate.feedback.judges.load import load_judge

        models = replace(models, judge=load_judge(judge))
    return models
