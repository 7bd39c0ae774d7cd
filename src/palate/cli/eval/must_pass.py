"""`palate eval must-pass`: whether a model's answers have what they must have."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.arguments import BaseUrl, MaxNewTokens, PrecisionName, TemplateName
from palate.cli.console import print_done
from palate.cli.models import model_path
from palate.errors import DataError


def command(
    model: Annotated[str, Argument(metavar="MODEL", help="Run, version, model folder, or the engine's name.")],
    prompts: Annotated[Path, Option("--prompts", metavar="FILE", help="Rows with a prompt, and `must` or `must_not`.")],
    output: Annotated[Path, Option("--output", "-o", metavar="FILE", help="For `loop gate --must-pass`.")],
    max_new_tokens: MaxNewTokens = 256,
    base_url: BaseUrl = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Check greedy answers for regular expressions that they must, or must not, have.

    Example: palate eval must-pass v1.1 --prompts must_pass.jsonl -o must-pass.json
    """
    from palate.artifacts import check_writable, write_json
    from palate.data.prompts import load_prompts
    from palate.evaluation.answers.answerer import load_answerer
    from palate.evaluation.must_pass import must_pass

    check_writable(output)
    asked, dropped = load_prompts(str(prompts))
    if dropped:
        raise DataError(f"{dropped[0].id}: {dropped[0].reason} ({dropped[0].detail}); every row needs a prompt")
    answerer = load_answerer(model if base_url else model_path(model), base_url, template=template, precision=precision)
    checked, values = must_pass(asked, answerer, max_new_tokens=max_new_tokens)
    failed = [asdict(one) for one in checked if one.misses]
    result = {"kind": "must-pass", "model": model, "items": values.to_json(), "failed": failed}
    write_json(output, result)
    lines = [f"passed  {len(checked) - len(failed):,} of {len(checked):,}"]
    lines += [f"{one['id']}: {'; '.join(one['misses'])}" for one in failed]
    print_done("\n".join([*lines, f"result  {output}"]), result)
