"""The options of commands that ask a judge over an API, declared once; a command gets them as `ApiSettings`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from palate.cli.arguments import StoreUrl, with_options
from palate.cli.console import print_progress
from palate.errors import UsageError
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judges.usage import Limits, Prices

if TYPE_CHECKING:
    from palate.records import Judge

JudgeSpec = Annotated[
    str,
    Option(
        "--judge",
        help="length:shorter, lexicon:FILE, module:function, file.py:function, a reward model's folder, openai:MODEL, "
        "openai:MODEL@URL,URL=2, or jury:JUDGE,JUDGE.",
    ),
]


def _option(*names: str, **settings: Any) -> Any:
    return Option(*names, rich_help_panel="Options of judges over an API", **settings)


def api_settings(
    *,
    base_url: Annotated[
        str | None,
        _option(
            "--base-url",
            metavar="URL",
            help="OpenAI-compatible endpoint, up to /v1; several of one model as URL,URL=2. Default: PALATE_BASE_URL, "
            "OPENAI_BASE_URL, else OpenAI's.",
        ),
    ] = None,
    prompt: Annotated[
        str,
        _option(
            "--prompt",
            metavar="NAME|FILE",
            help="criteria, concise, score, rubric, generated-rubric, or a file with {prompt}, {answer_a}, {answer_b} "
            "and {criteria}.",
        ),
    ] = "criteria",
    in_flight: Annotated[
        int, _option("--in-flight", metavar="N", min=1, help="Most requests at once to each URL.")
    ] = 8,
    max_usd: Annotated[
        float | None, _option("--max-usd", metavar="X", min=0, help="Stop before the cost passes X USD; needs prices.")
    ] = None,
    price_in: Annotated[float, _option("--price-in", metavar="X", min=0, help="USD per million input tokens.")] = 0.0,
    price_out: Annotated[
        float, _option("--price-out", metavar="X", min=0, help="USD per million output tokens.")
    ] = 0.0,
    max_requests: Annotated[
        int | None, _option("--max-requests", metavar="N", min=1, help="Stop after N requests.")
    ] = None,
    commit_first: Annotated[
        bool, _option("--commit-first", help="The judge first answers the prompt itself, without seeing the answers.")
    ] = False,
    logprobs: Annotated[
        bool, _option("--logprobs", help="Take the verdict from the probabilities of the letters A and B.")
    ] = False,
    thinking_budget: Annotated[
        int, _option("--thinking-budget", metavar="N", min=0, help="Tokens for a reasoning model's thinking.")
    ] = 0,
    temperature: Annotated[
        float, _option("--temperature", metavar="X", min=0, help="Sampling temperature of the judge.")
    ] = 0.0,
    timeout: Annotated[float, _option("--timeout", metavar="S", min=0.001, help="Seconds for one reply.")] = 300.0,
    store: StoreUrl = None,
) -> ApiSettings:
    """How a judge over an API is asked, as it is given on the command line."""
    return ApiSettings(
        base_url=base_url,
        prompt=prompt,
        temperature=temperature,
        thinking_budget=thinking_budget,
        commit_first=commit_first,
        logprobs=logprobs,
        in_flight=in_flight,
        timeout=timeout,
        prices=Prices(price_in, price_out),
        limits=Limits(max_usd, max_requests),
        store=store,
    )


asks_judge = with_options("settings", api_settings)
"""Gives a command the options of judges over an API, which it gets as its parameter `settings`."""


def judge_of(spec: str, settings: ApiSettings, votes: Path, *, check: bool = False) -> Judge:
    """The judge, which prints its estimates and keeps criteria that it writes beside the votes.

    Args:
        check: ask each endpoint once now for its models, because long work comes before the first question.

    Raises:
        EngineError: with `check`, an endpoint cannot be reached, or refuses the key or the model.
        UsageError: options of judges over an API are given for another judge; `--store` is for the cards of any judge.
    """
    from palate.feedback.judges.load import is_api_judge, load_judge

    if not is_api_judge(spec) and replace(settings, store=None) != ApiSettings():
        raise UsageError(f"--judge {spec} is asked without an API; --prompt, --max-usd and such need openai:MODEL")
    rubrics = votes.with_name(f"{votes.stem}.rubrics.jsonl")
    judge = load_judge(
        spec,
        settings=replace(settings, rubrics=rubrics, announce=lambda found: print_progress(f"to ask: {found.line()}")),
    )
    if check and is_api_judge(spec):
        from palate.feedback.judges.api import ApiJudge

        for member in getattr(judge, "members", (judge,)):
            if isinstance(member, ApiJudge):
                member.check_model()
    return judge
