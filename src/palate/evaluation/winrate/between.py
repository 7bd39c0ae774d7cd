"""The win rate of two models from Python, as `palate eval winrate` measures it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.artifacts import plain, write_json
from palate.data.prompts import load_prompts
from palate.evaluation.winrate.folder import RESULT, WinRateFolder
from palate.evaluation.winrate.result import Result
from palate.evaluation.winrate.run import Plan, answer_all, check_plan, find_leaks, measure_judged
from palate.evaluation.winrate.sides import read_side
from palate.feedback.judges.load import load_judge
from palate.models.generation.decoding import Decoding
from palate.records import DatasetRequest, DatasetSpec, Judge


def winrate(
    a: str | Path,
    b: str | Path,
    prompts: DatasetSpec | DatasetRequest,
    judge: str | Judge,
    *,
    output: str | Path,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    seed: int = 42,
    by: str = "",
    cluster: str = "",
    template: str | None = None,
    precision: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Win rate of model a against model b on the same prompts, by a judge that is asked in both orders.

    `winrate("runs/dpo", "runs/sft", "prompts.jsonl", "runs/rm", output="runs/won").figures.rate.rate.estimate`

    Args:
        a, b: runs, models, `openai:MODEL@URL`, or candidates files.
        judge: as `palate judge --judge` has it, or an object with the protocol `Judge`.
        output: folder of answers, verdicts and winrate.json; what is there already is not done again.
        by: column of the prompts with their category; "" for none.
        cluster: column that groups prompts which depend on each other; "" for none.
        say: receives a line before each model is loaded.

    Raises:
        PalateError: both are one model, or something cannot be read.
    """
    plan = Plan(
        read_side(str(a)),
        read_side(str(b)),
        load_prompts(prompts)[0],
        Decoding(max_new_tokens, temperature, top_p, seed),
        template=template,
        precision=precision,
        category=by,
        cluster=cluster,
    )
    check_plan(plan)
    folder = WinRateFolder(Path(output))
    folder.check()
    asked = load_judge(judge) if isinstance(judge, str) else judge
    folder.path.mkdir(parents=True, exist_ok=True)
    answer_all(plan, {temperature: folder}, say=say)
    result = measure_judged(plan, folder, asked, temperature=temperature, leaks=find_leaks(plan))
    write_json(folder.path / RESULT, plain(result.to_json()))
    return result
