"""`palate eval winrate`: how often A's answers are preferred to B's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from palate.artifacts import check_writable, file_name
from palate.charts.text import amount, by_endpoint
from palate.cli.arguments import MaxNewTokens, PrecisionName, SamplingSeed, TemplateName, opened_store
from palate.cli.console import print_note, print_progress
from palate.cli.dataset import read_prompts, reads_dataset
from palate.cli.eval.winrate_output import print_next_step, print_one, print_sweep, write_result
from palate.cli.generate import TopP
from palate.cli.judge.options import asks_judge, judge_of
from palate.cli.judge.result import endpoint_counts
from palate.cli.models import model_path
from palate.errors import DataError, EngineError, UsageError
from palate.feedback.judges.settings import ApiSettings
from palate.records import DatasetRequest, Record

if TYPE_CHECKING:
    from palate.evaluation.winrate.folder import WinRateFolder
    from palate.evaluation.winrate.result import Result
    from palate.evaluation.winrate.run import WinRatePlan
    from palate.evaluation.winrate.sides import Side
    from palate.feedback.people_votes import PeopleVotes
    from palate.records import Judge

PEOPLE = "people"
MAX_NEW_TOKENS, SEED = 256, 42

SideA = Annotated[
    str,
    Argument(
        metavar="A", help="Run, checkpoint, model folder, hub id, openai:MODEL@URL, or a candidates file (.jsonl)."
    ),
]
SideB = Annotated[str, Argument(metavar="B", help="What A is compared with; as A.")]
Prompts = Annotated[
    str | None,
    Option("--prompts", help="File, folder, hub id or registered dataset to answer. Default: those of recorded A."),
]
JudgeSpec = Annotated[
    str, Option("--judge", help="As `palate judge` has it, or `people` for votes of people (--votes, --campaign).")
]
Votes = Annotated[
    Path | None,
    Option("--votes", metavar="FILE.jsonl", help="Votes of people: the judge `people`, or to correct a judge."),
]
Campaign = Annotated[
    str | None, Option("--campaign", metavar="NAME", help="Campaign of the store whose votes of people are read.")
]
Temperatures = Annotated[
    str, Option("--temperatures", metavar="T,T", help="Sampling temperatures of the answers; a row for each.")
]
Output = Annotated[
    Path | None,
    Option("--output", "-o", metavar="FOLDER", help="Folder of answers, verdicts and result. Default: A-vs-B."),
]
Category = Annotated[str, Option("--by", metavar="COLUMN", help="Column of the prompts' categories.")]
Cluster = Annotated[
    str, Option("--cluster", metavar="COLUMN", help="Column that groups prompts which depend on each other.")
]
Style = Annotated[bool, Option("--style", help="Also control for headers, lists and bold text.")]
Regressions = Annotated[bool, Option("--regressions", help="Also print the worst 20 losses side by side.")]


@reads_dataset(Prompts, optional=True, prompts_only=True)
@asks_judge
def command(
    a: SideA,
    b: SideB,
    request: DatasetRequest,
    judge: JudgeSpec,
    settings: ApiSettings,
    votes: Votes = None,
    campaign: Campaign = None,
    temperatures: Temperatures = "0",
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    seed: SamplingSeed = SEED,
    by: Category = "category",
    cluster: Cluster = "",
    style: Style = False,
    regressions: Regressions = False,
    output: Output = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Win rate of A against B, raw and length-controlled, with intervals; by a judge in both orders, or by people.

    Example: palate eval winrate runs/dpo runs/sft --prompts p.jsonl --judge rm
    """
    from palate.evaluation.winrate.folder import WinRateFolder
    from palate.evaluation.winrate.run import (
        WinRatePlan,
        answer_all,
        check_plan,
        check_sides,
        find_leaks,
        measure_answers,
    )
    from palate.evaluation.winrate.sides import read_side
    from palate.feedback.calibration.card import unmeasured_note
    from palate.models.generation.decoding import Decoding

    heats = _temperatures(temperatures)
    sides = (read_side(model_path(a, settings.store)), read_side(model_path(b, settings.store)))
    asked = _prompts(request, sides[0])
    has_category = any(by in record.extra for record in asked)
    plan = WinRatePlan(
        *sides,
        asked,
        Decoding(max_new_tokens, heats[0], top_p, seed),
        template=template,
        precision=precision,
        category=by if by != "category" or has_category else "",
        cluster=cluster,
        style=style,
    )
    check_plan(plan)
    _check_sampling(plan, heats)
    if len(heats) > 1 and (judge == PEOPLE or votes is not None or campaign is not None):
        raise UsageError("--temperatures: people vote on the answers of one temperature; name one")
    folder = WinRateFolder(output or Path(_folder_name(a, b)))
    folder.check()
    folders = {heat: folder.at_temperature(heat) if len(heats) > 1 else folder for heat in heats}
    people = _people(votes, settings.store, campaign)
    check_sides(plan)
    asked_judge = _judge(judge, settings, folder, campaign)
    check_writable(folder.path / "winrate.json")
    answer_all(plan, folders, on_progress=print_progress)
    if asked_judge is None and people is None:
        print_next_step(folders)
        return
    leaks = find_leaks(plan)
    results = {
        heat: measure_answers(plan, place, asked_judge, temperature=heat, leaks=leaks, people=people)
        for heat, place in folders.items()
    }
    by_endpoint("judged", endpoint_counts(asked_judge), print_progress)
    written = {heat: write_result(folders[heat], result) for heat, result in results.items()}
    if len(heats) > 1:
        print_sweep(folder, written)
    else:
        print_one(folder, written[heats[0]], with_regressions=regressions)
    if asked_judge is not None and (note := unmeasured_note(asked_judge, settings.store)) is not None:
        print_note(note)
    _check_missing(results, by_people=asked_judge is None)


def _judge(spec: str, settings: ApiSettings, folder: WinRateFolder, campaign: str | None) -> Judge | None:
    """The judge; None for people. The store of a campaign is no option of the judge then.

    Raises:
        UsageError: options of judges over an API are given for another judge or for people.
    """
    from palate.feedback.judges.load import is_api_judge

    own = replace(settings, store=None)
    if spec == PEOPLE:
        if own != ApiSettings():
            raise UsageError("--judge people is asked without an API; --prompt and such need openai:MODEL")
        return None
    return judge_of(
        spec, own if campaign is not None and not is_api_judge(spec) else settings, folder.votes, check=True
    )


def _temperatures(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--temperatures {text}: write numbers with commas, as 0,0.25,1") from error
    if not all(0 <= heat < 100 for heat in found) or len(set(found)) < len(found):
        raise UsageError(f"--temperatures {text}: needs different numbers of 0 or more")
    return found


def _check_sampling(plan: WinRatePlan, heats: list[float]) -> None:
    """Raises UsageError if an option of the answers is given that changes none of them."""
    given = {
        "--temperatures": heats != [0],
        "--top-p": plan.decoding.top_p != 1,
        "--max-new-tokens": plan.decoding.max_new_tokens != MAX_NEW_TOKENS,
        "--seed": plan.decoding.seed != SEED,
        "--template": plan.template is not None,
        "--precision": plan.precision != "auto",
    }
    named = ", ".join(name for name, is_given in given.items() if is_given)
    if named and all(side.recorded for side in plan.sides):
        raise UsageError(f"{named}: both sides are recorded, so no model answers; leave this out")
    if given["--top-p"] and not any(heats):
        raise UsageError("--top-p is for sampled answers, and these are greedy; name --temperatures above 0")


def _prompts(request: DatasetRequest, a: Side) -> list[Record]:
    """The prompts of --prompts, or those of A's recorded answers."""
    from palate.evaluation.winrate.sides import prompts_of

    if request.dataset:
        return read_prompts(request)[0]
    if a.recorded:
        return prompts_of(a.name)
    raise UsageError("name the prompts to answer with --prompts FILE")


def _folder_name(a: str, b: str) -> str:
    """A folder's name of the names of both sides, without what no folder may be called."""
    names = [Path(name.rstrip("/")).name.removesuffix(".jsonl") for name in (a, b)]
    return file_name(f"winrate-{names[0]}-vs-{names[1]}")


def _people(path: Path | None, store: str | None, campaign: str | None) -> PeopleVotes | None:
    """The votes of people in a file or in a store's campaign; None if neither is named."""
    from palate.feedback.people_votes import people_votes
    from palate.feedback.votes import read_votes

    if path is not None and campaign is not None:
        raise UsageError("--votes and --campaign both name votes of people; give one of them")
    if path is not None:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file of votes; `palate label export --to votes` writes one")
        return people_votes(read_votes(path))
    if campaign is None:
        return None
    from palate.feedback.transfer import votes_in

    with opened_store(store) as opened:
        return people_votes(opened.read(lambda session: votes_in(session, campaign)))


def _check_missing(results: dict[float, Result], *, by_people: bool) -> None:
    """Raises DataError if prompts have no answers, EngineError if a judge gave no verdict (asked again, it may)."""
    items = [item for result in results.values() for item in result.missing]
    unanswered = [item for item in items if item.row is None]
    missing = [item for item in items if item.row is not None]
    if unanswered:
        raise DataError(
            f"{amount(len(unanswered), 'prompt')} without an answer, left out of the win rate; add the answers, or run "
            f"the same command again for those of an engine. The first: {unanswered[0].id}: {unanswered[0].reason}"
        )
    if missing and not by_people:
        raise EngineError(
            f"{amount(len(missing), 'item')} without a verdict; run the same command again, what was answered is "
            f"kept. The first: {missing[0].id}: {missing[0].reason}"
        )
