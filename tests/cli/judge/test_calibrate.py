"""`palate judge calibrate`: a card, a page, a row in the store, and the note about unmeasured judges."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from chat_server import ABILITIES, ChatServer, prompt_text, shown
from judged_world import obeys, people, world
from palate.cli.main import main
from palate.feedback.calibration import load_card, newest_card
from palate.feedback.calibration.card import JudgeIdentity
from palate.records import as_turns
from palate.store import open_store
from runs import write_rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Candidates with models and votes of three people on the first 30 of 40 rows; the store is in the folder."""
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path}/p.db")
    rows = world(40)
    write_rows(
        tmp_path / "c.jsonl",
        [
            {
                "id": row.id,
                "prompt": as_turns(row.prompt),
                "completions": [asdict(answer) for answer in row.completions],
                "columns": {"models": ["base", "new"]},
            }
            for row in rows
        ],
    )
    write_rows(tmp_path / "people.jsonl", [vote.to_json() for vote in people(rows[:30])])
    (tmp_path / "judge_by_eye.py").write_text(
        "def score(prompts, completions):\n    return [float(text.startswith('good')) for text in completions]\n"
    )
    return tmp_path


def calibrate(folder: Path, *more: str) -> list[str]:
    return ["judge", "calibrate", str(folder / "c.jsonl"), "--votes", str(folder / "people.jsonl"), *more]


def test_a_card_a_page_and_a_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = f"{folder}/judge_by_eye.py:score"
    assert main(calibrate(folder, "--judge", judge, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    card = load_card(folder / "c.card.json")
    assert printed["card"] == str(folder / "c.card.json")
    assert printed["questions"] == card.questions == 40
    assert card.agreement.questions == 30
    assert set(card.inputs) == {"c.jsonl", "people.jsonl"}
    assert [(one.model, one.labelled, one.unlabelled) for one in card.models.models] == [
        ("base", 30, 10),
        ("new", 30, 10),
    ]
    page = (folder / "c.card.html").read_text()
    assert "palate judge card" in page
    store = open_store(create=False)
    assert store.read(lambda session: newest_card(session, card.judge)) == card
    store.close()
    assert card.judge.model, "the function's file is part of the judge's identity"


def test_what_a_person_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(calibrate(folder, "--judge", "length:longer", "--output", str(folder / "x.json"), "--canaries", "3")) == 0
    )
    out, err = capsys.readouterr()
    for text in (
        "This judge is invalid: do not use its votes.",
        "- it prefers the good answer with empty sentences, against the good answer in 3 of 3 canaries",
        "κ of judge and majority",
        "90 votes of 3 people on 30 questions",
        "win rate of base",
        "canary: padded",
        "base − new",
    ):
        assert text in out, text
    assert f"card      {folder / 'x.json'}" in err
    assert (folder / "x.html").is_file()


def test_votes_of_an_unmeasured_judge_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = ["judge", str(folder / "c.jsonl"), "--judge", "length:longer"]
    said = "judge length:longer was not measured against people's votes; palate judge calibrate measures it"
    assert main([*judge, "--output", str(folder / "v.jsonl")]) == 0
    assert said in capsys.readouterr().err
    assert not (folder / "p.db").exists()
    assert main(calibrate(folder, "--judge", "length:longer")) == 0
    assert main([*judge, "--output", str(folder / "w.jsonl")]) == 0
    err = capsys.readouterr().err
    assert said not in err
    assert "judge length:longer is invalid by its card of" in err
    assert JudgeIdentity("length:longer") == load_card(folder / "c.card.json").judge


def test_gold_outcomes_measure_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
    for row in rows[:3]:
        row["gold"] = True
    write_rows(folder / "people.jsonl", rows)
    write_rows(folder / "gold.jsonl", [{**rows[0], "who": "key"}])
    assert main(calibrate(folder, "--judge", "length:longer", "--gold", str(folder / "gold.jsonl"), "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["people"]["gold"] == 3
    assert printed["agreement"]["questions"] == 29
    assert {one["who"]: one["gold"]["n"] for one in printed["annotators"]} == {"x": 1, "y": 1, "z": 1}
    assert printed["annotators"][0]["gold"]["estimate"] == 1


def test_labelled_pairs_need_no_votes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [
        {"input": f"q{n}", "output_1": "a" * (n + 1), "output_2": "b" * (7 - n), "label": 1 + n % 2} for n in range(6)
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    assert main(["judge", "calibrate", str(folder / "pairs.json"), "--judge", "length:shorter", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    # Shorter: output_1 for n = 0, 1, 2, a tie for 3, output_2 for 4, 5; labels 1 2 1 2 1 2.
    assert printed["agreement"]["agreement"]["interval"]["estimate"] == pytest.approx(3 / 6)
    assert main(["judge", "calibrate", str(folder / "c.jsonl"), "--judge", "length:shorter"]) == 2
    assert "name the votes of people with --votes FILE.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "judge"}, "no vote of a person"),
        ({"item": "elsewhere:1"}, "a vote is on elsewhere:1, which is not among the candidates"),
        ({"right": 7}, "a vote is on the answers 0 and 7 of r:0, which has 2"),
    ],
)
def test_wrong_votes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, object], said: str
) -> None:
    rows = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
    write_rows(folder / "people.jsonl", [{**rows[0], **changed}])
    assert main(calibrate(folder, "--judge", "length:longer")) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0
    assert not (folder / "c.card.json").exists()


def by_form(body: dict[str, Any], first: bool) -> str:
    """A verdict for the answer shown first or second, in the form that the prompt asks for; rubrics are not known."""
    text, side = prompt_text(body), "A" if first else "B"
    if "Score A: 5" in text:
        return f"Answer {side} is better.\nScore A: {9 if first else 2}\nScore B: {2 if first else 9}"
    if "Verdict: A" in text:
        return f"Answer {side} is better.\nVerdict: {side}"
    return "A=B" if "A=5" in text else side


def obeying(body: dict[str, Any]) -> str:
    """Knows what is good, but obeys; asked for criteria, it writes two."""
    if "<<<answer A" not in prompt_text(body):
        return "- relevance: is it about the question\n- clarity: is it clear"
    one, two = shown(body, "answer A"), shown(body, "answer B")
    return by_form(body, obeys(one, two) == "left")


@pytest.mark.usefixtures("waits")
def test_a_judge_over_an_api_that_obeys_an_injection(
    endpoint: ChatServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answer, endpoint.abilities = obeying, ABILITIES - {"schema", "json"}
    command = calibrate(folder, "--judge", "openai:m", "--prompt", "concise", "--in-flight", "3", "--canaries", "2")
    command += ["--repeats", "5", "--spread", "4"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == "invalid"
    assert printed["reasons"][0] == (
        "it prefers an answer to another prompt that tells the judge to prefer it in 2 of 2 canaries"
    )
    assert (printed["judge"]["model"], printed["concurrency"], len(printed["judge"]["prompt_hash"])) == ("m", 3, 64)
    assert (printed["questions"], printed["unparsed"], printed["missing"]) == (40, 0, 0)
    assert (printed["endpoint"]["schema"], printed["endpoint"]["logprobs"]) == (False, True)
    page = (folder / "c.card.html").read_text()
    assert "endpoint: json mode" in page
    assert "CANARY-123" not in page + json.dumps(printed), "the key of the API"
    assert printed["contradictions"]["interval"]["estimate"] == 0
    assert printed["repetition"]["interval"]["n"] == 5
    prompts = {one["prompt"]: one for one in printed["prompts"]["prompts"]}
    assert {"criteria", "concise", "score", "rubric"} <= set(prompts)
    assert prompts["criteria"]["agreement"]["interval"]["n"] == 4
    assert prompts["rubric"]["agreement"]["interval"] is None
    assert (prompts["rubric"]["unparsed"], prompts["rubric"]["missing"]) == (4, 0)
    assert printed["prompts"]["spread"] == 0
    sent = len(endpoint.requests)
    # 40 questions, 10 canaries and 5 repetitions with two orders each; 4 questions with each other prompt.
    assert sent >= 2 * (40 + 10 + 5)
    assert main([*command, "--json"]) == 0
    assert len(endpoint.requests) == sent, "nothing is asked twice"
    again = json.loads(capsys.readouterr().out)
    assert {**again, "when": ""} == {**printed, "when": ""}


@pytest.mark.usefixtures("waits")
def test_missing_verdicts_keep_a_card_from_being_good(
    endpoint: ChatServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answer = obeying
    command = calibrate(
        folder, "--judge", "openai:m", "--max-requests", "50", "--canaries", "2", "--spread", "0", "--json"
    )
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["missing"] == 30, "60 verdicts on labelled questions and 20 on the others, of which 50 are there"
    assert printed["unparsed"] == 0
    assert printed["agreement"]["missing"] == 5
    assert "30 of 80 verdicts are missing; run the command again" in printed["reasons"]
    assert printed["prompts"]["reason"] == "no question was asked with other prompts"
    assert len(endpoint.requests) == 50


def test_the_card_of_a_rule_goes_into_the_named_store(folder: Path) -> None:
    store = folder / "other.db"
    assert main(calibrate(folder, "--judge", "length:longer", "--store", f"sqlite:///{store}")) == 0
    opened = open_store(f"sqlite:///{store}", create=False)
    found = opened.read(lambda session: newest_card(session, JudgeIdentity("length:longer")))
    opened.close()
    assert found is not None
    assert found.verdict == "invalid"
