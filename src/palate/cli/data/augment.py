"""`palate data augment`: more pairs, each marked with how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json
from palate.cli.data.arguments import (
    Columns,
    DatasetDir,
    Datasets,
    Labels,
    MaxDropped,
    MaxSamples,
    Seed,
    Split,
    Subset,
    chosen_columns,
    chosen_reading,
)
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.candidates import Answerer
    from palate.records import Messages


def augment_command(
    datasets: Datasets,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for augmented.jsonl and data.json.")
    ],
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="KIND=SIZE", help="Rows to add, as dropped_end=0.1 or sampled=500."),
    ] = None,
    aim: Annotated[
        list[str] | None, typer.Option("--aim", help="A gap to fill: accuracy, helpfulness or safety.")
    ] = None,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="New rows for --aim, of the rows read.")] = 0.2,
    max_share: Annotated[float, typer.Option("--max-share", min=0, help="Most new rows, of the rows read.")] = 0.5,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", metavar="PLAN.yaml", help="YAML file with kinds: and all other settings.")
    ] = None,
    max_of_kind: Annotated[
        float, typer.Option("--max-of-kind", min=0, max=1, help="Most of the new rows that may be of one kind.")
    ] = 1.0,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Models or runs that sample; the first also paraphrases and revises."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="OpenAI-compatible engine, up to /v1; without it, in this process.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="As for palate judge: a rule, a function, a reward model's folder.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=2, help="Answers to sample for each prompt.")] = 4,
    by: Annotated[
        str, typer.Option("--by", help="Pairs of sampled answers: best_worst, or margin for the nearest worse.")
    ] = ("best_worst"),
    min_margin: Annotated[float, typer.Option("--min-margin", help="Least difference of two scores.")] = 0.0,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="Sampling temperature.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    seed: Seed = 0,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    max_dropped: MaxDropped = 0.5,
    as_json: AsJson = False,
) -> None:
    """Make new pairs: corrupted, reworded, moved, sampled and judged, or revised; nothing replaces what was there."""
    if by not in ("best_worst", "margin"):
        raise UsageError(f"--by {by}: is not one of best_worst, margin")
    if sum(map(bool, (add, aim, plan_file))) != 1:
        raise UsageError("say what to make: --add KIND=SIZE, --aim at a gap, or --plan PLAN.yaml")

    from palate.data.augment import Helpers, Plan, augment, read_plan

    options: dict[str, Any] = {"max_share": max_share, "max_of_kind": max_of_kind, "seed": seed}
    options |= {"k": k, "by": by, "min_margin": min_margin}
    if plan_file is not None:
        plan = read_plan(plan_file)
    else:
        plan = Plan.aimed(aim, share, **options) if aim else Plan(_sizes(add or []), **options)
    helpers = Helpers()
    if models:
        samplers = {
            model: _AnswererSampler(_answerer(model, base_url), temperature, max_new_tokens) for model in models
        }
        others = {model: sampler for model, sampler in samplers.items() if model != models[0]}
        helpers = Helpers(samplers[models[0]], models[0], others=others)
    if judge is not None:
        from palate.feedback.judges import load_judge

        helpers = replace(helpers, judge=load_judge(judge))
    done = augment(
        datasets,
        output,
        plan,
        helpers,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        max_dropped=max_dropped,
        reading=chosen_reading(labels=label),
    )
    if as_json:
        from dataclasses import asdict

        result_json(asdict(done))
        return
    lines = [f"{done.read:>9,}  rows as they were"]
    lines += [f"{count:>9,}  {kind}" for kind, count in done.made.items()]
    for kind, reasons in done.not_made.items():
        lines.append(f"{'':>9}  {kind} not made of {', '.join(f'{n:,} rows: {why}' for why, n in reasons.items())}")
    result("\n".join([*lines, str(done.output / "augmented.jsonl")]))


def _sizes(entries: Sequence[str]) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for entry in entries:
        kind, _, size = entry.partition("=")
        try:
            sizes[kind.strip()] = float(size)
        except ValueError:
            raise UsageError(f"--add {entry}: write KIND=SIZE, as dropped_end=0.1 or sampled=500") from None
    return sizes


def _answerer(model: str, base_url: str | None) -> Answerer:
    if base_url is not None:
        from palate.models.generation.engine import Engine

        return Engine(base_url, model)

    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import default_device, resolve

    device = default_device()
    return Subject(model_spec(model), resolve("auto", device), device)


class _AnswererSampler:
    """What answers prompts, as the sampler that `data.augment` is lent."""

    def __init__(self, answerer: Answerer, temperature: float, max_new_tokens: int) -> None:
        self._answerer = answerer
        self._temperature = temperature
        self._max_new_tokens = max_new_tokens

    def sample(
        self, prompts: Sequence[Messages], k: int, *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[list[str]]:
        """K answers for each prompt, each with a seed of its own."""
        from palate.models.generation.generate import Decoding, sampling_seed

        decoding = Decoding(self._max_new_tokens, self._temperature, 1.0, seed)
        asked = [prompt for prompt in prompts for _ in range(k)]
        seeds = [sampling_seed(seed, prompt, number) for prompt in prompts for number in range(k)]
        offered = None if tools is None else [one for one in tools for _ in range(k)]
        texts = [answer.text for answer in self._answerer.answers(asked, decoding, seeds, tools=offered)]
        return [texts[start : start + k] for start in range(0, len(texts), k)]
