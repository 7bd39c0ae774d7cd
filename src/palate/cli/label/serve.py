"""`palate label serve`: the labelling page, from a candidates file or two models, in one command."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import (
    BaseUrl,
    CampaignName,
    MaxNewTokens,
    PrecisionName,
    StoreUrl,
    TemplateName,
    check_installed,
    opened_store,
    two_names,
)
from palate.cli.console import print_progress
from palate.cli.models import load_streams
from palate.cli.web import Host, HostNames, Https, Open, Port, page_settings, serve_pages
from palate.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from palate.feedback.page.chat import Chat
    from palate.models.generation.decoding import Decoding
    from palate.store import Store

CandidatesFile = Annotated[
    Path | None,
    Option("--candidates", metavar="FILE.jsonl", help="Candidates to label, as `palate generate` writes them."),
]
Models = Annotated[
    tuple[str, str] | None,
    Option(
        "--models",
        metavar="A B",
        callback=two_names,
        help="Two models that answer free prompts: runs, checkpoints, model folders, openai:MODEL@URL, or one twice.",
    ),
]
Save = Annotated[
    Path | None,
    Option("--save", metavar="FILE.jsonl", help="Append each decided pair to this file at once, to train on."),
]
VotesPerItem = Annotated[
    int | None, Option("--votes-per-item", min=1, help="Votes for each pair, of different people. Default: 1.")
]
Temperature = Annotated[float, Option("--temperature", min=0, help="Sampling temperature of free prompts.")]
TopP = Annotated[float, Option("--top-p", min=0.01, max=1, help="Nucleus (top-p) sampling of free prompts.")]
Seed = Annotated[int, Option("--seed", min=0, help="Base of the seeds of free prompts' answers.")]


def serve_command(
    candidates: CandidatesFile = None,
    campaign: CampaignName = None,
    models: Models = None,
    base_url: BaseUrl = None,
    save: Save = None,
    store: StoreUrl = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    names: HostNames = None,
    https: Https = False,
    votes_per_item: VotesPerItem = None,
    open_page: Open = True,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 512,
    seed: Seed = 42,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Serve the labelling page until Ctrl-C; the next start continues where this one ended.

    Example: palate label serve --candidates candidates.jsonl --save pairs.jsonl
    """
    if base_url is not None and models is None:
        raise UsageError("--base-url is where --models are served; name two with --models A B")

    check_installed("label")
    from palate.feedback.page.save import PreferenceFile
    from palate.models.generation.decoding import Decoding

    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(opened_store(store, create=True))
        settings = page_settings(opened, host, port, names, https)
        name = _campaign(opened, candidates, campaign, votes_per_item, free_prompts=models is not None)
        settings = replace(settings, campaign=name)
        decoding = Decoding(max_new_tokens, temperature, top_p, seed)
        chat = _load_chat(models, base_url, decoding, template, precision) if models is not None else None
        if chat is not None:
            stack.callback(chat.close)
        # Last, because it makes the file and its folder: a start that fails leaves neither behind.
        file = stack.enter_context(PreferenceFile(save)) if save is not None else None
        serve_pages(opened, settings, chat, file, open_page=open_page)


def _campaign(
    store: Store, candidates: Path | None, given: str | None, votes_per_item: int | None, *, free_prompts: bool
) -> str | None:
    """The campaign that the page begins with, with the candidates in it; None for free prompts only."""
    from palate.feedback.page.free_prompts import CAMPAIGN
    from palate.feedback.transfer.files import DEFAULT_CAMPAIGN, import_files

    name = given or store.read(lambda session: _only_campaign(session, other_than=CAMPAIGN))
    if candidates is not None:
        name = name or DEFAULT_CAMPAIGN
        counts = import_files(store, candidates, campaign=name).candidates
        if counts is not None:
            new = amount(counts.new, "new prompt")
            print_progress(f"{candidates}: {new} in campaign {name}, {counts.same:,} there before")
    elif free_prompts and given is None:
        return None
    elif name is None:
        raise UsageError("there is nothing to label: give --candidates FILE, or two models with --models A B")
    store.write(lambda session: _prepare(session, name, votes_per_item, make=candidates is not None))
    return name


def _only_campaign(session: Session, *, other_than: str) -> str | None:
    """The store's campaign, None if it has none; `other_than` is not asked for, it has the free prompts."""
    from palate.feedback.campaigns.campaign import list_campaigns

    names = [campaign.name for campaign in list_campaigns(session) if campaign.name != other_than]
    if len(names) > 1:
        raise UsageError(f"the store has the campaigns {', '.join(names[:5])}; name one with --campaign")
    return names[0] if names else None


def _prepare(session: Session, name: str, votes_per_item: int | None, *, make: bool) -> None:
    """Change the number of votes if another one is asked for; make the tasks of new candidates, or the first ones."""
    from palate.feedback.campaigns.campaign import change_schema, current_schema, find_campaign, make_tasks

    campaign = find_campaign(session, name)
    schema = current_schema(session, campaign.id)
    if votes_per_item is not None and votes_per_item != schema.votes_per_item:
        change_schema(session, name, replace(schema, votes_per_item=votes_per_item), "palate label serve")
    if make or campaign.tasks == 0:
        make_tasks(session, campaign)


def _load_chat(
    models: tuple[str, str], base_url: str | None, decoding: Decoding, template: str | None, precision: str
) -> Chat:
    from palate.feedback.page.chat import Chat

    first, second = load_streams(models, base_url, template=template, precision=precision)
    return Chat(first, second, decoding)
