"""Writes `pairs.jsonl`, `kto.jsonl`, `candidates.jsonl` and their manifest from recorded interactions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts import atomic_folder, file_hash, read_json
from palate.data.contract import named_hashes, write_contract
from palate.data.formats.targets import TARGETS
from palate.data.formats.writers import write_rows
from palate.data.held_out import HeldOut
from palate.errors import DataError, UsageError
from palate.feedback.candidates import AnswerOrigin, Candidates
from palate.progress import track
from palate.records import Answer, LabelledCompletion, PreferencePair
from palate.registry.lineage import register_export
from palate.serving.from_interactions.draw import SHARES, draw
from palate.serving.from_interactions.rows import capped, labelled_answers, pairs
from palate.serving.from_interactions.usable import Usable, usable
from palate.serving.recording.exported_files import MANIFEST
from palate.serving.recording.listing import Filter, read_interactions
from palate.store import Store
from palate.store.tables import CampaignItem, VoteRow

_HOW = "from-interactions"
_REMEDIES = {
    "no_consent": " (clients send x-palate-consent: true, or the key is made with --consent)",
    "answers_not_ended": " (cut off: raise max_tokens of the requests)",
    "texts_not_recorded": " (record with --record redacted or full)",
}
_UNCERTAIN = 0.15
"""A judge is uncertain if its probability is nearer to ½ than this, or its verdict depends on the order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How interactions become data.

    Attributes:
        filter: which interactions.
        share_per_user: largest share of one person's rows in `kto.jsonl` and in `pairs.jsonl`.
        sample: candidates to draw for labelling.
        shares: of the sample: `uniform`, `judge_uncertain`, `thumbs_down`.
        exclude: evaluation data that must not be trained on.
        seed: of the draws.
    """

    filter: Filter = field(default_factory=Filter)
    share_per_user: float = 0.01
    sample: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    exclude: Sequence[Path] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written.

    Attributes:
        output: the folder.
        interactions: that were looked at, `usable` that may be learnt from, and the `people` who made these.
        files: name → rows.
        sources: pairs by source (`edit`, `choice`), and labelled answers by thumb (`up`, `down`).
        caps: name of the file → most rows of a person.
        left_out: reason → interactions, or feedback that became no row.
    """

    output: Path
    interactions: int
    usable: int
    people: int
    files: Mapping[str, int]
    sources: Mapping[str, int]
    caps: Mapping[str, int]
    left_out: Mapping[str, int]


def from_interactions(store: Store, output: Path, options: Options | None = None) -> ExportSummary:
    """Write the folder; the same store and options give the same bytes.

    Raises:
        DataError: there is nothing to write; names the reasons. Or the folder is not one of this function.
        UsageError: a file of `exclude` has no texts.
    """
    options = options or Options()
    _check_folder(output)
    excluded = HeldOut(options.exclude)
    if options.exclude and not len(excluded):
        raise UsageError(f"{', '.join(map(str, options.exclude))}: has no prompt, and no text of 20 characters or more")
    left_out: Counter[str] = Counter()

    def work(session: Session) -> tuple[int, list[Usable], set[str]]:
        ids = list(session.scalars(options.filter.query()))
        left_out.clear()
        recorded = track(read_interactions(session, ids), "interactions", len(ids), delay=2.0)
        found = usable(recorded, left_out, excluded)
        return len(ids), found, _uncertain(session, [one.id for one in found])

    looked_at, found, uncertain = store.read(work)
    files, caps, sources = _rows(found, uncertain, options, left_out)
    if not files:
        reasons = ", ".join(f"{count:,} {name}{_REMEDIES.get(name, '')}" for name, count in sorted(left_out.items()))
        hint = "" if looked_at else "; make a key that records: palate keys create NAME --record full --consent"
        raise DataError(
            f"{store.url}: nothing to write from {looked_at:,} interactions: {reasons or 'no feedback'}{hint}"
        )
    folder = str(output.resolve())
    store.write(lambda session: register_export(session, folder, []))  # before the rows exist, so that none is unknown
    people = len({one.person for one in found})
    rows = {name: len(rows) for name, rows in files.items()}
    made = ExportSummary(output, looked_at, len(found), people, rows, sources, caps, dict(sorted(left_out.items())))
    _write(output, files, made, options)
    hashes = [file_hash(output / f"{name}.jsonl") for name in files]
    store.write(lambda session: register_export(session, folder, hashes))
    return made


def _rows(
    found: Sequence[Usable], uncertain: set[str], options: Options, left_out: Counter[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int], dict[str, int]]:
    """Name of the file → rows, in the order of the manifest; name → cap; source → rows."""
    files: dict[str, list[dict[str, Any]]] = {}
    caps: dict[str, int] = {}
    sources: Counter[str] = Counter()
    compared, cap, over = capped(pairs(found, left_out), options.share_per_user, options.seed)
    if compared:
        files["pairs"], caps["pairs"] = [_row(record) for _, record in compared], cap
        sources.update(record.extra["lineage"]["source"] for _, record in compared)
    left_out["pairs_over_cap_of_person"] += over
    labelled, cap, over = capped(labelled_answers(found, left_out), options.share_per_user, options.seed)
    if labelled:
        files["kto"], caps["kto"] = [_row(record) for _, record in labelled], cap
        sources.update("up" if record.desirable else "down" for _, record in labelled)
    left_out["thumbs_over_cap_of_person"] += over
    candidates = _candidates(found, uncertain, options)
    if candidates:
        files["candidates"] = candidates
    for reason in [reason for reason, count in left_out.items() if not count]:
        del left_out[reason]
    return files, caps, dict(sorted(sources.items()))


def _row(record: LabelledCompletion | PreferencePair) -> dict[str, Any]:
    return {"id": record.id, **TARGETS["palate"].row(record)}


def _candidates(found: Sequence[Usable], uncertain: set[str], options: Options) -> list[dict[str, Any]]:
    """Interactions that were drawn for labelling, with the probability of that."""
    if not options.sample:
        return []
    down = {one.id for one in found if any(row.thumbs == "down" for row in one.feedback)}
    strata = {"uniform": [one.id for one in found], "judge_uncertain": uncertain, "thumbs_down": down}
    drawn = draw(strata, options.sample, options.shares, options.seed)
    rows = []
    for one in found:
        if one.id not in drawn:
            continue
        stored = one.recorded.row
        columns = {
            "inclusion_probability": drawn[one.id].probability,
            "strata": list(drawn[one.id].strata),
            "lineage": one.lineage("sample", one.answers),
        }
        tokens = {answer.number: answer.tokens for answer in one.recorded.answers}
        answers = tuple(Answer(turns[-1].text, "stop", tokens[number]) for number, turns in one.answers.items())
        origin = AnswerOrigin(stored.model, stored.identity, None, stored.decoding)
        row = Candidates(one.id, one.prompt, answers, columns, stored.tools).with_origins([origin] * len(answers))
        rows.append(row.to_json())
    return rows


def _uncertain(session: Session, ids: Sequence[str]) -> set[str]:
    """The interactions on whose answers a judge in the store was uncertain."""
    outcomes: dict[str, set[str]] = defaultdict(set)
    found = set()
    wanted = (
        select(CampaignItem.name, VoteRow.outcome, VoteRow.probability_left, VoteRow.left, VoteRow.right, VoteRow.who)
        .join(CampaignItem, CampaignItem.id == VoteRow.item_id)
        .where(VoteRow.kind == "judge", VoteRow.outcome.in_(("left", "right", "tie")))
    )
    known = set(ids)
    for name, outcome, probability, left, right, who in session.execute(wanted):
        if name not in known:
            continue
        verdicts = outcomes[f"{name}\0{left}\0{right}\0{who}"]
        verdicts.add(outcome)
        near = probability is not None and abs(probability - 0.5) < _UNCERTAIN
        if near or outcome == "tie" or len(verdicts) > 1:
            found.add(name)
    return found


def _write(output: Path, files: Mapping[str, list[dict[str, Any]]], made: ExportSummary, options: Options) -> None:
    with atomic_folder(output) as folder:
        written: dict[str, Path] = {}
        for name, rows in files.items():
            path = folder / f"{name}.jsonl"
            write_rows(path, rows)
            written[name if written else "rows"] = path  # `rows` is the file that training reads
        counts = asdict(made)
        del counts["output"]
        chosen = asdict(options)
        chosen["filter"] = {name: str(value) for name, value in chosen["filter"].items() if value is not None}
        chosen["exclude"] = named_hashes(options.exclude)
        write_contract(folder / MANIFEST, how=_HOW, files=written, counts=counts, sources=(), options=chosen)


def _check_folder(output: Path) -> None:
    """Refuse a folder with something else in it."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    manifest = output / MANIFEST
    if not manifest.is_file() or read_json(manifest).get("made_by") != _HOW:
        raise DataError(f"{output} exists and was not written by palate data {_HOW}; choose another name")
