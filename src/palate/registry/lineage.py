"""Where a version comes from: run, base, datasets with hashes, and the votes that their pairs were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from palate.artifacts import file_hash, json_hash, read_json
from palate.config.stages.model import adapter_names, merged_adapters
from palate.registry.contents import Contents, FileFacts, base_files
from palate.store.registry_tables import ModelVersion
from palate.store.serving_tables import Interaction, InteractionExport
from palate.store.tables import Campaign, CampaignItem, Task, VoteRow, utc_now

_AT_A_TIME = 500


def lineage_of(contents: Contents, files: FileFacts) -> dict[str, Any]:
    """The lineage of a version, as the store keeps it.

    Keys: `source` (folder), `base` (model, revision, adapters, weights of the start, files of an adapter's base), and
    of a run `run` (stage, objective, times, checkpoint), `reference`, `data` (files of each dataset with SHA-256, as
    they were when it trained), `data_identity`, `held_out_identity`, `votes` (number, hash of their ids, which are in
    the version's data.json), `evaluation` (SHA-256 of accuracy.json).
    """
    base: dict[str, Any] = {"model": contents.base, "adapters": []}
    found: dict[str, Any] = {"source": str(contents.source), "base": base}
    run = contents.run
    if run is not None:
        config = run["config"]
        # A continued adapter is saved complete, so what it continued is needed no more.
        needed = merged_adapters(config) if contents.kind == "adapter" else ()
        base |= {
            "revision": config.get("model_revision"),
            "adapters": list(adapter_names(config.get("adapter_name_or_path"))),
            "weights": (run.get("model") or {}).get("identity"),
        }
        found["run"] = {
            key: run[key] for key in ("stage", "objective", "started", "finished", "checkpoint") if key in run
        }
        found["reference"] = run.get("reference")
        found |= _data(contents, run)
    else:
        needed = ()
    if contents.kind == "adapter":
        base["files"] = base_files([contents.base, *needed])
    if "accuracy.json" in files:
        found["evaluation"] = {"accuracy.json": files["accuracy.json"]["sha256"]}
    return found


def parents(lineage: Mapping[str, Any]) -> list[str]:
    """Folders that a version was trained from, the nearest first."""
    base = lineage["base"]
    return [*reversed(base["adapters"]), base["model"]]


def changed_base(lineage: Mapping[str, Any]) -> list[str]:
    """One line for each file of an adapter's base that is not as it was when the version was added."""
    problems = []
    for name, sha256 in lineage["base"].get("files", {}).items():
        if not Path(name).is_file():
            problems.append(f"{name}, a file of its base, is missing")
        elif file_hash(name) != sha256:
            problems.append(f"{name}, a file of its base, has changed since the version was added")
    return problems


def vote_ids(folder: Path) -> list[str]:
    """Ids of the votes that a version's pairs were made from; [] if they were not made from votes."""
    return _ids(folder, "votes")


def interaction_ids(folder: Path) -> list[str]:
    """Ids of the interactions whose feedback a version was trained on."""
    return _ids(folder, "interactions")


def trained_versions(
    session: Session, data_files: Collection[str], votes: Collection[str], interactions: Collection[str] = ()
) -> list[str]:
    """Names of the versions that were trained on something, directly or as their base, in the order of their adding.

    Args:
        data_files: SHA-256 of data files.
        votes, interactions: ids; a file that was mixed from exports of interactions has other hashes than these.
    """
    files, ids, asked = set(data_files), set(votes), set(interactions)
    found: dict[int, str] = {}
    for version in session.scalars(select(ModelVersion).order_by(ModelVersion.id)):
        sources, folder = version.lineage.get("data") or [], Path(version.folder)
        has_file = any(not files.isdisjoint(source.get("files", {}).values()) for source in sources)
        has_vote = bool(ids) and not ids.isdisjoint(vote_ids(folder))
        has_interaction = bool(asked) and not asked.isdisjoint(interaction_ids(folder))
        if has_file or has_vote or has_interaction or version.base_id in found:
            found[version.id] = version.name
    return list(found.values())


def answered_by(session: Session, interaction: str) -> str | None:
    """Name of the version that answered a recorded interaction; None if there is no such interaction."""
    return session.scalar(select(Interaction.model).where(Interaction.id == interaction))


def register_export(session: Session, folder: str, hashes: Sequence[str]) -> None:
    """Note that data files with these hashes were written to a folder, so that a deletion looks there."""
    row = session.get(InteractionExport, folder)
    if row is None:
        session.add(InteractionExport(folder=folder, hashes=list(hashes), at=utc_now()))
    else:
        row.hashes = list(dict.fromkeys([*row.hashes, *hashes]))


def _ids(folder: Path, of: str) -> list[str]:
    path = folder / "data.json"
    return list((read_json(path).get(of) or {}).get("ids", [])) if path.is_file() else []


def votes_of(session: Session, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Id → campaign, item, answers, outcome, kind of voter and time of these votes, of those that the store has.

    People are not named; a judge is. `task` is where the labelling page shows the two answers: the campaign that has
    the item, and the number of the task; None without one.
    """
    of_task = and_(Task.item_id == VoteRow.item_id, Task.left == VoteRow.left, Task.right == VoteRow.right)
    found = {}
    for start in range(0, len(ids), _AT_A_TIME):
        rows = select(VoteRow, CampaignItem.name, Campaign.name, Task.id).join(
            CampaignItem, CampaignItem.id == VoteRow.item_id
        )
        rows = rows.join(Campaign, Campaign.id == CampaignItem.campaign_id).outerjoin(Task, of_task)
        for row, item, campaign, task in session.execute(rows.where(VoteRow.id.in_(ids[start : start + _AT_A_TIME]))):
            found[row.id] = {
                "campaign": row.campaign,
                "item": item,
                "answers": [row.left, row.right],
                "outcome": row.outcome,
                "by": "person" if row.kind == "person" else row.who,
                "at": row.at,
                "task": None if task is None else {"campaign": campaign, "number": task},
            }
    return found


@dataclass(frozen=True, slots=True)
class Voter:
    """A person or judge, by the name and kind of their votes, and how many there are."""

    who: str
    kind: str
    votes: int


def voters(session: Session, ids: Sequence[str]) -> list[Voter]:
    """Who cast these votes, as far as the store has them, those with most votes first."""
    found: Counter[tuple[str, str]] = Counter()
    for start in range(0, len(ids), _AT_A_TIME):
        of = VoteRow.id.in_(ids[start : start + _AT_A_TIME])
        rows = select(VoteRow.who, VoteRow.kind, func.count()).where(of).group_by(VoteRow.who, VoteRow.kind)
        for who, kind, count in session.execute(rows):
            found[who, kind] += count
    return [Voter(who, kind, count) for (who, kind), count in sorted(found.items(), key=lambda row: (-row[1], row[0]))]


def _data(contents: Contents, run: Mapping[str, Any]) -> dict[str, Any]:
    trained = run.get("data") or {}
    given = contents.files.get("data.json")
    report = read_json(given) if isinstance(given, Path) else {}
    found: dict[str, Any] = {
        "data": report.get("lineage", []),
        "data_identity": trained.get("identity"),
        "held_out_identity": trained.get("held_out_identity"),
    }
    ids = (report.get("votes") or {}).get("ids", [])
    if ids:
        found["votes"] = {"count": len(ids), "sha256": json_hash(sorted(ids))}
    return found
