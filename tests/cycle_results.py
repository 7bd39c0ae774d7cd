"""The results of a cycle whose candidate did not pass, as files, for tests of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import write_json
from runs import write_rows

RATE = {"estimate": 0.4, "low": 0.3, "high": 0.5, "n": 100, "level": 0.95}
GROUP = {"name": "code", "items": 10, "judged": 10, "wins": 2, "losses": 8, "rate": {**RATE, "estimate": 0.2}}
WIN_RATE: dict[str, Any] = {
    "kind": "winrate",
    "version": 1,
    "a": {"name": "new", "identities": []},
    "b": {"name": "old", "identities": []},
    "judge": "j",
    "prompts": 100,
    "counts": {},
    "losses": 60,
    "win_rate": RATE,
    "length_controlled": {"rate": RATE, "reason": ""},
    "mean_lengths": [300.0, 200.0],
    "by_category": [GROUP, {**GROUP, "name": "chat", "rate": RATE}],
    "by_length": [],
    "findings": ["the judge prefers the first"],
    "regressions": [
        {
            "id": "p7",
            "score": 0.0,
            "prompt": [{"role": "user", "content": "why?"}],
            "a": "so",
            "b": "because",
            "reason": "",
        }
    ],
    "items": [],
}


def check(name: str, part: str = "validity", state: str = "open", **fields: Any) -> dict[str, Any]:
    known = {"needed": "n", "found": 0.5, "low": None, "high": None, "reason": "is so", "more": None}
    return {"part": part, "name": name, "state": state, **known, **fields}


def gate(*checks: dict[str, Any], attempt: int = 1, outcome: str = "INCONCLUSIVE") -> dict[str, Any]:
    names = {"candidate": "new", "incumbent": "old"}
    return {"kind": "gate", "outcome": outcome, "attempt": attempt, "checks": list(checks), **names}


def vote(item: str, outcome: str, who: str, kind: str = "person", **fields: Any) -> dict[str, Any]:
    known = {"left": 0, "right": 1, "when": "2026-01-31T12:00:00Z", "shown": "left_first", "reason": ""}
    return {"item": item, "outcome": outcome, "who": who, "kind": kind, "probability_left": None, **known, **fields}


def write_cycle(folder: Path) -> Path:
    """The files of a cycle whose candidate did not pass, in folders as its steps write them."""
    for name in ("winrate", "annotate", "run", "run/checkpoint-1"):
        (folder / name).mkdir(parents=True)
    write_json(folder / "winrate" / "winrate.json", WIN_RATE)
    write_rows(folder / "winrate" / "candidates.jsonl", [])
    write_rows(folder / "winrate" / "votes.jsonl", [{"not": "read"}])
    write_json(folder / "winrate" / "gate.json", gate(check("judge card")))
    write_json(folder / "gate.json", gate(check("share judged"), attempt=2))
    write_json(folder / "run" / "run.json", {"status": "completed", "health": [], "config": {"dataset": "gone"}})
    write_json(folder / "run" / "checkpoint-1" / "damaged.json", {})
    rows = [{"id": f"i{n}", "prompt": f"question {n}", "completions": [f"a {n}", f"b {n}"]} for n in range(4)]
    write_rows(folder / "annotate" / "candidates.jsonl", rows)
    votes = [vote("i0", "left", "ann"), vote("i0", "right", "bob", reason="too long"), vote("i1", "left", "ann")]
    votes += [vote("i1", "right", "j", "judge"), vote("i1", "right", "j", "judge", shown="right_first")]
    votes += [vote("i2", "left", "ann"), vote("i2", "left", "bob"), vote("i2", "left", "j", "judge")]
    # Neither a vote on a known answer nor a judge that says both is a conflict.
    votes += [vote("i2", "right", "cy", gold=True), vote("i3", "left", "ann")]
    votes += [vote("i3", "left", "j", "judge"), vote("i3", "right", "j", "judge", shown="right_first")]
    write_rows(folder / "annotate" / "votes.jsonl", votes)
    return folder
