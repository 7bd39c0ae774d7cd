"""`palate judge calibrate`: measures a judge against the votes of people, and writes its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from palate.cli.arguments import opened_store
from palate.cli.columns import two_columns
from palate.cli.console import print_done, print_note, print_progress
from palate.cli.judge.options import JudgeSpec, asks_judge, judge_of
from palate.errors import UsageError
from palate.feedback.judges.settings import ApiSettings

if TYPE_CHECKING:
    from palate.feedback.calibration import JudgeCard
    from palate.feedback.candidates import Candidates
    from palate.feedback.votes import Vote

CandidatesFile = Annotated[
    Path,
    Argument(
        metavar="CANDIDATES.jsonl|PAIRS.json", help="Candidates that people voted on, or labelled pairs with the label."
    ),
]
Votes = Annotated[
    Path | None, Option("--votes", metavar="FILE.jsonl", help="Votes of people. Not needed for labelled pairs.")
]
Gold = Annotated[
    Path | None, Option("--gold", metavar="FILE.jsonl", help="Known outcomes of gold questions, as votes.")
]
Output = Annotated[
    Path | None,
    Option("--output", "-o", metavar="CARD.json", help="The card; a page is beside it. Default: CANDIDATES.card.json."),
]
Unlabelled = Annotated[
    int | None,
    Option("--unlabelled", min=0, help="Most questions without votes, for corrected win rates. Default: all."),
]
Repeats = Annotated[int, Option("--repeats", min=0, help="Most questions that are asked again.")]
Spread = Annotated[
    int, Option("--spread", min=0, help="Most questions that are asked with each prompt of the judge; 0 for none.")
]
Canaries = Annotated[int, Option("--canaries", min=0, help="Most canaries of each kind.")]
Seed = Annotated[int, Option("--seed", min=0, help="Random seed of what is drawn.")]


@asks_judge
def command(
    candidates: CandidatesFile,
    judge: JudgeSpec,
    settings: ApiSettings,
    votes: Votes = None,
    gold: Gold = None,
    output: Output = None,
    unlabelled: Unlabelled = None,
    repeats: Repeats = 50,
    spread: Spread = 50,
    canaries: Canaries = 20,
    seed: Seed = 42,
) -> None:
    """Measure a judge: agreement with people, biases, stability, canaries, corrected win rates. Writes a judge card.

    Example: palate judge calibrate answers.jsonl --votes people.jsonl --judge rm
    """
    from palate.artifacts import check_writable, file_hash, write_text
    from palate.feedback.calibration import Extent, measure, save_card, write_card
    from palate.feedback.votes import read_votes
    from palate.report.pages.judge_card import judge_card_page

    rows, cast = _read(candidates, votes)
    known = read_votes(gold) if gold is not None else []
    path = output or candidates.with_suffix(".card.json")
    check_writable(path)
    with opened_store(settings.store, create=True) as database:
        card = measure(
            judge_of(judge, settings, path),
            rows,
            cast,
            gold=known,
            inputs={file.name: file_hash(file) for file in (candidates, votes, gold) if file is not None},
            extent=Extent(unlabelled=unlabelled, repeats=repeats, of_prompts=spread, canaries=canaries, seed=seed),
        )
        write_card(card, path)
        database.write(lambda session: save_card(session, card))
    page = write_text(path.with_suffix(".html"), judge_card_page(card))
    print_progress(f"card      {path}\npage      {page}")
    text = two_columns(lines(card))
    print_done(text, {"card": str(path), "page": str(page), **card.to_json()})
    if card.verdict != "may_decide_alone":
        print_note(f"judge {card.judge.name}: {card.verdict.replace('_', ' ')}")


def _read(candidates: Path, votes: Path | None) -> tuple[list[Candidates], list[Vote]]:
    from palate.feedback.calibration.labelled_pairs import read_labelled_pairs
    from palate.feedback.candidates import read_candidates
    from palate.feedback.votes import read_votes

    if votes is not None:
        return read_candidates(candidates), read_votes(votes)
    if candidates.suffix != ".json":
        raise UsageError(f"{candidates}: name the votes of people with --votes FILE.jsonl")
    return read_labelled_pairs(candidates)


def lines(card: JudgeCard) -> list[tuple[str, str]]:
    """The card for a terminal: (name, value)."""
    from palate.feedback.calibration.canaries import KINDS
    from palate.report.pages.judge_card import (
        VERDICTS,
        agreement_counts,
        agreement_rows,
        bias_rows,
        corrected_text,
        people_counts,
        people_rows,
    )

    found = [("verdict", VERDICTS[card.verdict][1]), *(("", f"- {reason}") for reason in card.reasons)]
    found += [*agreement_rows(card), ("", agreement_counts(card)), *bias_rows(card)]
    for one in card.canaries:
        counts = f"{one.wins} wins, {one.ties} ties, {one.unparsed} unparsed of {one.asked}"
        found.append((f"canary: {one.kind.replace('_', ' ')}", f"{one.reason or counts} ({KINDS[one.kind]})"))
    for rate in card.models.models:
        found.append((f"win rate of {rate.model}", f"PPI++ {corrected_text(rate.ppi)}"))
    for two in card.models.differences:
        found.append((f"{two.first} − {two.second}", corrected_text(two.win_rate)))
    if card.models.reason:
        found.append(("win rates", card.models.reason))
    return [*found, *people_rows(card), ("", people_counts(card))]
