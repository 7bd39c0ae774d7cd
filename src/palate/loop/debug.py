"""What is known of a candidate that was not deployed: verdict, regressions, label conflicts, data, health, acts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from palate.artifacts import file_hash, read_json
from palate.data.comparisons import source_shares
from palate.data.load import load_records
from palate.errors import DataError, PalateError, UsageError
from palate.evaluation.logs.palate_results import check_version, is_win_rate
from palate.feedback.candidates import Candidates
from palate.feedback.export.aggregate import Decided, decide
from palate.feedback.export.collection import Collection, collection_of_files
from palate.feedback.export.vote_filter import filter_votes, is_person
from palate.loop.advice import advice
from palate.records import DatasetRequest, PreferencePair, as_turns, prompt_key
from palate.registry.canary import AUTOMATON, canary_moves

VERSION = 1
_SHOWN = 20
_WIN_RATE = (
    *("a", "b", "judge", "prompts", "counts", "losses", "win_rate", "length_controlled", "mean_lengths"),
    *("by_category", "by_length", "findings", "regressions"),
)
"""What the report takes from winrate.json."""


@dataclass(slots=True)
class CycleResults:
    """What was found in folders and files; None or empty for what is not there.

    Attributes:
        winrate: content of winrate.json, and `gate` of gate.json, the last attempt.
        run: directory of the run.
        dataset: folder of `palate loop mix`.
        votes: candidates with the votes on them.
        canary: why the cycle ended the candidate's canary; "" if it did not.
    """

    winrate: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    run: Path | None = None
    dataset: Path | None = None
    votes: list[Collection] = field(default_factory=list)
    canary: str = ""

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Candidate and incumbent: the versions of the verdict, else as the results name them."""
        gate, winrate = self.gate or {}, self.winrate or {}
        measured = {"candidate": winrate.get("a", {}).get("name"), "incumbent": winrate.get("b", {}).get("name")}
        named = {**measured, **gate, **(gate.get("versions") or {})}
        return named["candidate"], named["incumbent"]


def find_cycle_results(paths: Sequence[Path]) -> CycleResults:
    """The results in these files and folders, recognised by their content; folders of runs are not searched further.

    Of several gates the last attempt counts, of win rates the one that it read (judged benchmarks have some, too), of
    runs the one that finished last.

    Raises:
        UsageError: a path does not exist, or there are two win rates or training sets.
        ArtifactError: a file is damaged.
    """
    found = CycleResults()
    win_rates: dict[Path, Any] = {}
    sets: dict[Path, None] = {}
    runs: dict[Path, str] = {}
    for path in (file for given in paths for file in _files(given)):
        if path.name == "votes.jsonl":
            beside = path.with_name("candidates.jsonl")
            if beside.is_file() and not path.with_name("winrate.json").exists():
                found.votes.append(collection_of_files(beside, path))
        elif path.suffix == ".json":
            content = read_json(path)
            if not isinstance(content, dict):
                continue
            if is_win_rate(content):
                check_version(content.get("version"), str(path))
                win_rates[path.resolve()] = content
            elif content.get("kind") == "gate":
                if found.gate is None or content["attempt"] > found.gate["attempt"]:
                    found.gate = content
            elif path.name == "run.json":
                runs[path.parent] = str(content.get("finished") or "")
            elif content.get("made_by") == "loop mix":
                sets[path.parent.resolve()] = None
    read = set((found.gate or {}).get("inputs", {}).values())
    if len(win_rates) > 1:
        win_rates = {path: one for path, one in win_rates.items() if file_hash(path) in read} or win_rates
    for several, what in ((win_rates, "win rates"), (sets, "training sets")):
        if len(several) > 1:
            raise UsageError(f"there are {len(several)} {what}, {' and '.join(map(str, several))}; name one")
    found.winrate = next(iter(win_rates.values()), None)
    found.dataset = next(iter(sets), None)
    found.run = max(runs, key=runs.__getitem__, default=None)
    return found


def why_ended(session: Session, candidate: str | None) -> str:
    """Why the cycle ended the canary of a version; "" if it did not."""
    moves = [] if candidate is None else canary_moves(session, candidate)
    return moves[-1].reason if moves and moves[-1].share == 0 and moves[-1].who == AUTOMATON else ""


def debug_facts(now: CycleResults, last: CycleResults | None = None) -> dict[str, Any]:
    """The content of debug.json.

    Raises:
        UsageError: there is nothing to report on.
        DataError: a file lacks a field.
    """
    if now.gate is None and now.winrate is None and now.run is None:
        raise UsageError("there is no gate.json, winrate.json or run.json; name the folders of a cycle's results")
    try:
        run = {} if now.run is None else read_json(now.run / "run.json")
        facts: dict[str, Any] = {
            "kind": "debug",
            "version": VERSION,
            "candidate": now.names[0],
            "incumbent": now.names[1],
            "gate": now.gate,
            "canary": now.canary,
            "winrate": None if now.winrate is None else {key: now.winrate[key] for key in _WIN_RATE},
            "run": None if now.run is None else {"folder": str(now.run), "status": run.get("status")},
            "health": list(run.get("health") or ()),
            "conflicts": _conflicts(now.votes) if now.votes else None,
            "data": {"now": _data(now), "last": None if last is None else _data(last)},
        }
        return facts | {"acts": [asdict(act) for act in advice(facts)]}
    except KeyError as error:
        raise DataError(f"a result has no {error}; measure it again with this version of palate") from error


def _files(path: Path) -> Iterator[Path]:
    """The JSON files in a folder, at any depth; of a run only its run.json."""
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    if path.is_file():
        yield path
    elif (path / "run.json").is_file():
        yield path / "run.json"
    else:
        for child in sorted(path.iterdir()):
            if not child.name.startswith(".") and (child.is_dir() or child.suffix in (".json", ".jsonl")):
                yield from _files(child)


def _conflicts(collections: Sequence[Collection]) -> dict[str, Any]:
    """Comparisons on which people disagree with each other, or with the judges, and how many there are.

    A judge that says another thing in each order has no verdict, so it disagrees with nobody.
    """
    counts: Counter[str] = Counter()
    items: list[dict[str, Any]] = []
    rows = {row.id: row for one in collections for row in one.candidates}
    votes = filter_votes((vote for one in collections for vote in one.votes), voters="all").votes
    judged_by = decide(vote for vote in votes if not is_person(vote))
    judges = {(item, one.left, one.right): one for item, found in judged_by.items() for one in found}
    counts["votes_of_people"] = sum(map(is_person, votes))
    counts["votes_of_judges"] = len(votes) - counts["votes_of_people"]
    for item, found in decide(filter(is_person, votes)).items():
        for result in found:
            judged = judges.get((item, result.left, result.right))
            both = judged is not None and {result.result, judged.result} <= {"left", "right"}
            against = judged is not None and both and judged.result != result.result
            counts["repeated"] += result.given > 1
            counts["people"] += result.conflict
            counts["with_judge"] += both
            counts["judge"] += against
            if (result.conflict or against) and len(items) < _SHOWN and item in rows:
                items.append(_conflict(rows[item], result, judged))
    names = ("votes_of_people", "votes_of_judges", "repeated", "people", "with_judge", "judge")
    return {**{name: counts[name] for name in names}, "items": items}


def _conflict(row: Candidates, result: Decided, judged: Decided | None) -> dict[str, Any]:
    """A comparison with its texts and what each voter said; people are not named."""
    votes = [*result.cast, *(judged.cast if judged is not None else ())]
    return {
        "id": row.id,
        "between": "people" if result.conflict else "people and judge",
        "prompt": as_turns(row.prompt),
        "left": row.completions[result.left].text,
        "right": row.completions[result.right].text,
        "votes": [
            {"by": "person" if is_person(vote) else vote.who, "outcome": vote.outcome, "reason": vote.reason}
            for vote in votes
        ],
    }


def _data(results: CycleResults) -> dict[str, Any] | None:
    """Rows, sources, lengths, categories and votes of the training set; None if none was found."""
    if results.dataset is not None:
        request = DatasetRequest(dataset=[str(results.dataset)])
    elif results.run is not None:
        config = read_json(results.run / "run.json").get("config") or {}
        request = DatasetRequest.of_run(config, config.get("dataset") or "")
    else:
        return None
    try:
        records = load_records(request, kind=PreferencePair).records
    except PalateError as error:  # of other kinds than pairs, or moved since: the rest of the report stands
        return {"reason": str(error)}
    lines = [line for record in records if isinstance(line := record.extra.get("lineage"), Mapping)]
    means = {
        side: sum(len(turn.text) for record in records for turn in getattr(record, side)) / len(records)
        for side in ("chosen", "rejected")
    }
    categories = Counter(str(record.extra["category"]) for record in records if record.extra.get("category"))
    return {
        "rows": len(records),
        "prompts": len({prompt_key(record.prompt) for record in records}),
        "sources": {f"{one.source} ({one.kind})": one.loss_share for one in source_shares(records)},
        "length_chosen": means["chosen"],
        "length_rejected": means["rejected"],
        "categories": dict(categories.most_common(_SHOWN)),
        "votes": len({vote for line in lines for vote in line.get("votes") or ()}),
        "conflicts": sum(bool(line.get("conflict")) for line in lines),
    }
