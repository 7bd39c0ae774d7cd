"""`palate model add`, `list`, `show`, `verify`, `probe` and `gc`: the versions of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from palate.cli.arguments import PrecisionName, StoreUrl, opened_store
from palate.cli.columns import table, two_columns
from palate.cli.console import print_done, print_json, print_result, wants_json
from palate.cli.model.options import ModelsDir, VersionName, Who, canary_line, models_dir, move_line, user
from palate.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from palate.registry import CanaryState, Version

_HASH = 12
_TIME = "%Y-%m-%d %H:%M"


def add_command(
    source: Annotated[Path, Argument(metavar="RUN|FOLDER", help="A run, checkpoint, model or adapter folder.")],
    name: Annotated[
        str | None, Option("--name", help="Name of the version. Default: the next number, from v1.0.")
    ] = None,
    note: Annotated[str, Option("--note", help="Free text about the version.")] = "",
    who: Who = None,
    folder: ModelsDir = None,
    store: StoreUrl = None,
) -> None:
    """Copy a model into the registry as a version that never changes, with the hashes of all files and its lineage.

    Example: palate model add runs/dpo --name v1.1 --note "votes of March"
    """
    from palate.registry import add

    with opened_store(store, create=True) as registry:
        done = add(registry, source, models_dir=models_dir(folder, registry), who=user(who), name=name, note=note)
    version = done.version
    there = "" if done.new else " (restored)" if done.restored else " (there already)"
    print_done(
        f"{version.name}{there}: {version.kind}, {len(version.files)} files, {version.size / 1e6:.1f} MB, "
        f"{version.content_hash[:_HASH]}, in {version.folder}",
        {**asdict(done.version), "new": done.new, "restored": done.restored},
    )


def list_command(store: StoreUrl = None) -> None:
    """List versions with their aliases.

    Example: palate model list
    """
    from palate.registry import versions
    from palate.registry.canary import canaries

    with opened_store(store) as registry:
        found = versions(registry)
        running = registry.read(canaries)
    if wants_json():
        print_json({"versions": found, "canaries": running})
    elif not found:
        print_result("no versions; palate model add makes one of a run")
    else:
        rows = []
        for version in found:
            aliases = ", ".join([*version.aliases, *_shares(version, running)]) or "–"
            what = [version.kind, version.content_hash[:_HASH], f"{version.size / 1e6:.1f}", version.base or "–"]
            note = version.note.replace("\n", " ")
            rows.append([version.name, aliases, *what, f"{version.created:%Y-%m-%d}", note])
        names = ["version", "aliases", "kind", "hash", "MB", "from", "added", "note"]
        print_result(table(names, rows, right=(4,)))


def _shares(version: Version, running: Sequence[CanaryState]) -> list[str]:
    """What the version answers as a canary."""
    return [f"{100 * canary.share:g} % of {canary.alias}" for canary in running if canary.version == version.name]


def show_command(
    name: Annotated[
        str, Argument(metavar="VERSION|ID", help="A version, an alias, or an interaction that one answered.")
    ],
    votes: Annotated[
        bool, Option("--votes", help="List the votes and interactions that it and its bases learnt from.")
    ] = False,
    store: StoreUrl = None,
) -> None:
    """Show a version with its lineage: bases, run, datasets, votes, verdicts, decisions, moves of aliases, canaries.

    Example: palate model show production --votes
    """
    from palate.registry import find, moves, verdicts, versions, with_bases
    from palate.registry.canary import canaries, canary_moves
    from palate.registry.lineage import answered_by, interaction_ids, vote_ids, votes_of

    with opened_store(store) as registry:
        version = find(registry, registry.read(lambda session: answered_by(session, name)) or name)
        chain = with_bases(version, versions(registry))
        history = moves(registry, version.name)
        ids = vote_ids(version.folder)
        named = {one.name: vote_ids(one.folder) for one in chain}
        known = registry.read(lambda session: votes_of(session, [vote for of in named.values() for vote in of]))
        judged = registry.read(lambda session: verdicts(session, version.name))
        shares = registry.read(lambda session: canary_moves(session, version.name))
        running = registry.read(canaries)
    here = sum(vote in known for vote in ids)
    learnt_from = [
        {
            "version": one.name,
            "votes": [{"id": vote, **known.get(vote, {})} for vote in named[one.name]],
            "interactions": interaction_ids(one.folder),
        }
        for one in chain
    ]
    if wants_json():
        shown = {"ids": ids, "in_store": here}
        facts = {**asdict(version), "from": [one.name for one in chain[1:]], "votes": shown, "moves": history}
        facts |= {"canaries": shares, "verdicts": judged}
        print_json(facts | ({"learnt_from": learnt_from} if votes else {}))
        return
    lines = [*_facts(version, [one.name for one in chain], running), *_data_lines(version.lineage)]
    if ids:
        lines.append(("votes", f"{len(ids)} (--votes lists them), {here} of them in this store"))
    for run in judged:
        lines.append(("verdict", f"{run.at:{_TIME}} {run.outcome} against {run.incumbent}, attempt {run.attempt}"))
        lines += [("decision", f"{one.at:{_TIME}} {one.action} by {one.who}: {one.reason}") for one in run.decisions]
    lines += [("canary", f"{one.since:{_TIME}} {canary_line(one)}, by {one.who}: {one.reason}") for one in shares]
    lines += [("moved", f"{move.at:{_TIME}} {move_line(move)}, by {move.who}: {move.reason}") for move in history]
    print_result(two_columns(lines, indent=0))
    if votes:
        print_result("\n".join(["", *(line for one in learnt_from for line in _learnt_lines(one))]))


def _learnt_lines(one: dict[str, Any]) -> list[str]:
    """A line for each vote and interaction that a version was trained on."""
    if not (one["votes"] or one["interactions"]):
        return [f"{one['version']}: its data names no votes"]
    lines = [f"{one['version']} learnt from {len(one['votes']):,} votes, {len(one['interactions']):,} interactions:"]
    for vote in one["votes"]:
        told = "not in this store"
        if "item" in vote:
            left, right = vote["answers"]
            told = (
                f"{vote['item']} ({left} or {right}): {vote['outcome']}, by {vote['by']}, {vote['at']:%Y-%m-%d %H:%M}"
            )
        lines.append(f"  vote {vote['id']}  {told}")
    return [*lines, *(f"  interaction {each}" for each in one["interactions"])]


def _facts(version: Version, chain: list[str], running: Sequence[CanaryState]) -> list[tuple[str, str]]:
    base, run = version.lineage["base"], version.lineage.get("run")
    lines = [
        ("version", version.name),
        ("aliases", ", ".join([*version.aliases, *_shares(version, running)]) or "none"),
        ("hash", version.content_hash),
        ("files", f"{version.kind}, {len(version.files)} files, {version.size / 1e6:.1f} MB, in {version.folder}"),
        ("added", f"{version.created:%Y-%m-%d %H:%M} UTC by {version.who}"),
    ]
    if version.note:
        lines.append(("note", version.note))
    if len(chain) > 1:
        lines.append(("versions", " ← ".join(chain)))
    if base["model"]:
        lines.append(("base", " + ".join([base["model"], *base["adapters"]])))
    if run is not None:
        step = f", checkpoint {run['checkpoint']}" if "checkpoint" in run else ""
        lines.append(("run", f"{version.lineage['source']}: {run.get('stage')} {run.get('objective') or ''}{step}"))
    return lines


def _data_lines(lineage: Any) -> list[tuple[str, str]]:
    return [
        ("data", f"{entry['name']}: {label} {sha256[:_HASH]}")
        for entry in lineage.get("data", [])
        for label, sha256 in (entry["files"] or {"hub": ""}).items()
    ]


def verify_command(
    names: Annotated[
        list[str] | None, Argument(metavar="VERSION", help="Versions or aliases. Default: all versions.")
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Read every file of the versions and compare hashes; exit code 1 if a file changed, is missing or was added.

    Example: palate model verify production
    """
    from palate.registry import find, problems, versions

    with opened_store(store) as registry:
        chosen = [find(registry, name) for name in names] if names else versions(registry)
    found = {version.name: problems(version) for version in chosen}
    text = "\n".join(f"{name}: {'; '.join(lines) or 'every file has its hash'}" for name, lines in found.items())
    facts = [{"name": name, "problems": lines} for name, lines in found.items()]
    print_done(text or "no versions", {"versions": facts})
    damaged = [name for name, lines in found.items() if lines]
    if damaged:
        raise ArtifactError(f"{len(damaged)} of {len(found)} versions are damaged: {', '.join(damaged)}")


def probe_command(name: VersionName, precision: PrecisionName = "auto", store: StoreUrl = None) -> None:
    """Keep an adapter's log-probabilities of fixed texts, with which `palate serve` checks what an engine serves.

    Example: palate model probe v1.1
    """
    from palate.evaluation.probes import compute_probes
    from palate.registry.versions import resolve, set_probes

    with opened_store(store) as registry:
        version = resolve(registry, name)
        if version.kind != "adapter":
            raise UsageError(f"{version.name} is a whole model; probes are of adapters, which engines load by name")
        probes = compute_probes(version.folder, precision)
        set_probes(registry, version.name, probes)
    tokens = sum(len(probe["logps"]) for probe in probes)
    moved = sum(abs(a - b) for probe in probes for a, b in zip(probe["logps"], probe["base"])) / tokens
    print_done(
        f"{version.name}: {tokens} tokens; the adapter changes them by {moved:.3g} nats in the mean",
        {"version": version.name, "tokens": tokens, "difference_from_base": moved, "probes": probes},
    )


def gc_command(
    older_than: Annotated[
        float, Option("--older-than", min=0, metavar="DAYS", help="Delete only versions added before that.")
    ] = 30.0,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what would be deleted.")] = False,
    folder: ModelsDir = None,
    store: StoreUrl = None,
) -> None:
    """Delete versions that no alias names or ever named, that were no canary, and that no other was trained from.

    Example: palate model gc --older-than 90 --dry-run
    """
    from palate.registry import collect

    age = timedelta(days=older_than)
    with opened_store(store) as registry:
        done = collect(registry, models_dir(folder, registry), older_than=age, dry_run=dry_run)
    names = [version.name for version in done.removed]
    what = "would be deleted" if dry_run else "deleted"
    size = f"{sum(version.size for version in done.removed) / 1e6:.1f} MB"
    text = f"{len(names)} versions {what}, {size}: {', '.join(names) or 'none'}"
    if done.kept:
        text += f"\nstay: {', '.join(f'{name} ({reason})' for name, reason in done.kept.items())}"
    print_done(text, {"removed": names, "dry_run": dry_run, "kept": done.kept})
