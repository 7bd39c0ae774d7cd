"""What the report of a candidate says, and the act that each fact asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cycle_results import WIN_RATE, check, gate, write_cycle
from palate.artifacts import file_hash, write_json
from palate.errors import DataError, UsageError
from palate.loop.advice import RULES, advice
from palate.loop.debug import CycleResults, debug_facts, find_cycle_results
from palate.loop.sources import PreferenceSource, mix_sources
from runs import write_rows


def facts(*checks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"gate": gate(*checks), "winrate": WIN_RATE, "run": None, "health": [], "conflicts": None}
    return {**given, "data": {"now": None, "last": None}, **fields}


CONFLICTS = {"people": 3, "repeated": 10, "judge": 3, "with_judge": 10}
DATA = {"length_chosen": 200.0, "length_rejected": 100.0, "votes": 40, "sources": {"people (human)": 0.9}}
LAST = {**DATA, "votes": 90, "sources": {"people (human)": 0.6, "judge (machine)": 0.4}}


@pytest.mark.parametrize(
    ("given", "rule", "act", "why"),
    [
        (facts(gate=None), "no verdict", "palate loop gate", "no verdict"),
        (facts(canary="errors", candidate="v2"), "canary", "list --model v2 --thumbs down", "was ended: errors"),
        (facts(check("leaked prompts", reason="is 3")), "leak", "decontaminate", "leaked prompts: is 3"),
        (facts(check("judge card")), "validity", "palate judge calibrate", "judge card: is so"),
        (facts(check("same in both orders")), "validity", "steadier judge", "same in both orders"),
        (facts(check("share judged")), "validity", "asks only for the missing", "share judged"),
        (facts(check("decoding of the config")), "validity", "decoding of the gate", "decoding"),
        (facts(check("latency p95", "range")), "validity", "--latency OLD NEW", "latency"),
        (facts(run={"folder": "r", "status": "stopped"}), "run", "finish the run", "the run is stopped"),
        (facts(conflicts={**CONFLICTS, "judge": 0}), "conflicts", "reviewer", "30% of 10 comparisons"),
        (facts(conflicts={**CONFLICTS, "people": 2}), "conflicts", "lower its weight", "contradicts people on 30%"),
        (facts(check("empty or repeating answers", "range")), "broken answers", "pref_ftx", "is so"),
        (facts(check("length ratio", "range", found=1.4)), "length", "sigmoid_norm", "length ratio: is so"),
        (
            facts(check("length ratio", "range", found=1.4), data={"now": DATA, "last": None}),
            "length",
            "rule length_ratio",
            "2.00 times as rejected",
        ),
        (facts(check("length ratio", "range", found=0.6)), "length", "lower the learning rate", "length ratio: is so"),
        (facts(check("t/mc1", "guard", "failed")), "guards", "raise pref_beta", "t/mc1: is so"),
        (facts(check("t/mc1", "guard", more=387)), "guards", "about 387 more items", "t/mc1"),
        (facts(check("win rate", "primary", "failed")), "win rate", "on code, the worst category", "is so"),
        (facts(check("win rate", "primary", more=250)), "win rate", "about 250 more prompts", "win rate"),
        (facts(check("win rate", "primary")), "win rate", "cannot settle win rate", "win rate"),
        (facts(check("win rate", "primary", found=None)), "win rate", "on all prompts", "win rate: is so"),
        (facts(check("t/mc1", "guard", found=None)), "guards", "palate eval bench t", "t/mc1: is so"),
        (facts(check("must-pass prompts", "guard")), "guards", "with --must-pass", "must-pass prompts: is so"),
        (facts(check("length ratio", "range", found=None)), "length", "lower the learning rate", "length ratio"),
        (
            facts(data={"now": DATA, "last": {**LAST, "votes": 80}}),
            "data",
            "set their weights",
            "people (human) 90% (was 60%), judge (machine) 0% (was 40%)",
        ),
        (facts(data={"now": DATA, "last": {**DATA, "votes": 90}}), "data", "more votes", "40 votes, 90 in the last"),
    ],
)
def test_each_fact_asks_for_its_act(given: dict[str, Any], rule: str, act: str, why: str) -> None:
    [found] = advice(given)
    assert (found.rule, rule in RULES) == (rule, True)
    assert act in found.act
    assert why in found.why


@pytest.mark.parametrize(
    "given",
    [
        facts(check("judge card", state="passed"), check("t/mc1", "guard", "passed")),
        facts(conflicts={"people": 2, "repeated": 10, "judge": 0, "with_judge": 0}),
        facts(run={"folder": "r", "status": "completed"}),
        facts(data={"now": DATA, "last": {**DATA, "votes": 80}}),
        facts(data={"now": {"reason": "gone"}, "last": LAST}, conflicts=None) | {"data": {"now": None, "last": None}},
    ],
)
def test_no_act_without_a_reason(given: dict[str, Any]) -> None:
    assert advice(given) == []


def test_validity_comes_before_the_model_and_errors_before_warnings() -> None:
    health = [
        {"name": name, "severity": severity, "step": 3, "message": "m", "remedy": "r"}
        for name, severity in (("slow", "warning"), ("spike", "error"))
    ]
    checks = (check("win rate", "primary", more=9), check("t/mc1", "guard", "failed"), check("judge card"))
    given = facts(*checks, health=health, data={"now": DATA, "last": LAST})
    found = [(one.rule, one.why.partition(":")[0]) for one in advice(given)]
    assert found == [
        ("validity", "judge card"),
        ("run", "spike"),
        ("run", "slow"),
        ("guards", "t/mc1"),
        ("win rate", "win rate"),
        ("data", "40 votes, 90 in the last cycle"),
        ("data", "share of the loss"),
    ]


@pytest.fixture
def cycle(tmp_path: Path) -> Path:
    return write_cycle(tmp_path / "0002")


def pair(number: int, chosen: str) -> dict[str, Any]:
    lineage = {"votes": [f"v{number}", "v"], "voters": [{"kind": "person"}], "conflict": number == 0}
    return {"prompt": f"p {number}", "chosen": chosen, "rejected": "b", "lineage": lineage, "category": "chat"}


def mixed(folder: Path, *chosen: str) -> Path:
    write_rows(folder.with_suffix(".jsonl"), [pair(number, text) for number, text in enumerate(chosen)])
    return mix_sources([PreferenceSource("people", "human", folder.with_suffix(".jsonl"))], folder).output


def test_the_files_of_a_cycle_are_found_by_their_content(cycle: Path) -> None:
    mixed(cycle / "mixed", "aa", "aaaa")
    mixed(cycle.parent / "last", "a")
    found = debug_facts(find_cycle_results([cycle]), find_cycle_results([cycle.parent / "last"]))
    assert (found["candidate"], found["incumbent"], found["gate"]["attempt"]) == ("new", "old", 2)
    write_json(cycle / "gate.json", {**gate(attempt=2), "versions": {"candidate": "v1.1", "incumbent": "v1.0"}})
    assert find_cycle_results([cycle]).names == ("v1.1", "v1.0")
    assert found["winrate"]["regressions"][0]["b"] == "because"
    assert [one["rule"] for one in found["acts"]] == ["validity", "conflicts", "conflicts"]
    conflicts = found["conflicts"]
    assert {key: value for key, value in conflicts.items() if key != "items"} == {
        "votes_of_people": 6,
        "votes_of_judges": 5,
        "repeated": 2,
        "people": 1,
        "with_judge": 2,
        "judge": 1,
    }
    assert [(one["id"], one["between"], one["left"], one["right"]) for one in conflicts["items"]] == [
        ("i0", "people", "a 0", "b 0"),
        ("i1", "people and judge", "a 1", "b 1"),
    ]
    assert conflicts["items"][0]["votes"][1] == {"by": "person", "outcome": "right", "reason": "too long"}
    assert [one["by"] for one in conflicts["items"][1]["votes"]] == ["person", "j", "j"]
    assert found["data"]["now"] == {
        "rows": 2,
        "prompts": 2,
        "sources": {"people (human)": 1.0},
        "length_chosen": 3.0,
        "length_rejected": 1.0,
        "categories": {"chat": 2},
        "votes": 3,
        "conflicts": 1,
    }
    assert found["data"]["last"]["rows"] == 1


def test_of_several_results_those_of_the_verdict_count(cycle: Path) -> None:
    (cycle / "bench").mkdir()
    write_json(cycle / "bench" / "winrate.json", {**WIN_RATE, "judge": "of a benchmark"})
    read = {"winrate.json": file_hash(cycle / "winrate" / "winrate.json")}
    write_json(cycle / "gate.json", {**gate(attempt=3), "inputs": read})
    (cycle / "round2").mkdir()
    last = {"status": "completed", "finished": "2026-01-31T12:00:00Z", "config": {"dataset": "gone"}}
    write_json(cycle / "round2" / "run.json", last)
    found = find_cycle_results([cycle, cycle / "winrate"])
    assert found.winrate is not None
    assert (found.winrate["judge"], found.run) == ("j", cycle / "round2")


def test_a_dataset_that_is_gone_is_said(cycle: Path) -> None:
    found = debug_facts(find_cycle_results([cycle / "run"]))
    assert "gone" in found["data"]["now"]["reason"]
    assert found["candidate"] is None
    assert [one["rule"] for one in found["acts"]] == ["no verdict"]


def test_what_cannot_be_reported_on(cycle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no gate\.json, winrate\.json or run\.json"):
        debug_facts(CycleResults())
    with pytest.raises(UsageError, match="missing: there is no such file or folder"):
        find_cycle_results([tmp_path / "missing"])
    write_json(tmp_path / "other.json", WIN_RATE)
    with pytest.raises(UsageError, match=r"there are 2 win rates, .*winrate\.json and .*other\.json; name one"):
        find_cycle_results([cycle, tmp_path / "other.json"])
    write_json(tmp_path / "other.json", {key: value for key, value in WIN_RATE.items() if key != "losses"})
    with pytest.raises(DataError, match="a result has no 'losses'; measure it again"):
        debug_facts(find_cycle_results([tmp_path / "other.json"]))
