"""`palate loop init`, `tick`, `status` and `abandon`: texts, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop_world import LOOP, World, make_world
from palate.cli.loop import cycle as verbs
from palate.cli.main import main
from palate.loop import process
from palate.store import Store


@pytest.fixture
def world(tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", "")
    made = make_world(tmp_path, sqlite_store, f"sqlite:///{tmp_path / 'palate.db'}")
    monkeypatch.setattr(process, "run_command", made.run)
    return made


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["loop", *words]) == code
    return capsys.readouterr()


def test_init_writes_configs_that_a_cycle_accepts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("loop.yaml", "gate.yaml"):
        (world.folder / name).unlink()
    words = ("init", "--train", "train.yaml", "--prompts", "heldout.jsonl", "--judge", "people", "--schedule", "none")
    out, err = printed(capsys, *words)
    assert "still to do" not in err
    assert "palate loop tick loop.yaml --dry-run" in out
    assert "n: 100\n" in (world.folder / "gate.yaml").read_text()
    assert "loop.yaml exists" in printed(capsys, *words, code=2)[1]
    plan = json.loads(printed(capsys, "tick", "--dry-run", "--json")[0])["steps"]
    assert [step["name"] for step in plan] == [
        *("collect", "sample", "candidates", "annotate", "pairs", "train", "evaluate", "gate", "canary", "deploy")
    ]
    assert plan[2]["commands"][0].startswith("palate generate ")
    assert plan[2]["requests"] == "300 answers of v1.0"
    assert plan[3]["requests"] == "300 votes of people"
    assert {step["seconds"] for step in plan} == {None}
    assert not (world.folder / "cycles").exists()


def test_init_says_what_is_missing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.folder / "loop.yaml").unlink()
    (world.folder / "cycles").write_text("")
    words = ("init", "--train", "no.yaml", "--prompts", "heldout.jsonl", "--judge", "openai:m", "--annotator", "nobody")
    err = printed(capsys, *words)[1]
    assert "still to do: no.yaml: there is no such config file" in err
    assert f"still to do: loop.yaml: folder: {world.folder / 'cycles'} is a file; name a folder" in err
    assert "judge is nobody, which is no rule and no folder" in err
    assert "evaluate: judge is openai:m, and that of gate.yaml is lexicon:good; name the same one" in err


def test_init_refuses_what_it_cannot_write(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--train", "train.yaml", "--prompts", "heldout.jsonl", "--judge", "people")
    assert "does not exist; make it" in printed(capsys, "init", "nowhere/loop.yaml", *words, code=2)[1]
    (world.folder / "sub").mkdir()
    assert "sub is a folder; name a file" in printed(capsys, "init", "sub", *words, code=2)[1]
    assert "name a judge with --annotator" in printed(capsys, "init", "new.yaml", *words, "--no-people", code=2)[1]
    assert not (world.folder / "new.yaml").exists()
    assert "palate loop init other.yaml writes one" in printed(capsys, "status", "other.yaml", code=2)[1]


def test_dry_run_stops_after_a_step(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(printed(capsys, "tick", "--dry-run", "--until", "sample", "--json")[0])["steps"]
    assert [step["name"] for step in plan] == ["collect", "sample"]
    assert "--until pair: is no step" in printed(capsys, "tick", "--dry-run", "--until", "pair", code=2)[1]


def test_dry_run_says_who_deploys(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "; sign by PERSON: REASON'" in printed(capsys, "tick", "--dry-run")[0]
    (world.folder / "loop.yaml").write_text(LOOP + "deploy: on_pass\n")
    assert "the config has deploy: on_pass'" in printed(capsys, "tick", "--dry-run")[0]


def test_wrong_keys_are_named_with_their_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.folder / "loop.yaml").write_text(
        LOOP.replace("days: 1", "days: 0") + "schedul: none\ndeploy: always\nforce_days: -1\n"
    )
    err = printed(capsys, "tick", code=2)[1]
    assert "loop.yaml:4: annotate" in err
    assert "loop.yaml:7: schedul is not a known key; did you mean schedule?" in err
    assert "loop.yaml:8: deploy must be person or on_pass, not always" in err
    assert "loop.yaml:9: force_days must be at least 0, not -1" in err


def test_tick_and_status(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "loop.yaml").write_text(LOOP + "schedule: none\n")
    monkeypatch.setattr("palate.store.tables.utc_now", world.clock)
    monkeypatch.setattr("palate.loop.tick.tick.__kwdefaults__", {**_defaults(), "now": world.clock})
    assert "begins the first cycle" in printed(capsys, "status")[0]
    assert "5 more interactions" in printed(capsys, "tick")[0]
    world.talk()
    out = printed(capsys, "tick")[0]
    assert "done       collect, sample, candidates" in out
    assert "palate label serve --campaign support-0001" in out
    text = printed(capsys, "status")[0]
    assert max(map(len, text.splitlines())) <= verbs.WIDTH
    assert "annotate    waiting" in text
    found: dict[str, Any] = json.loads(printed(capsys, "status", "--json")[0])
    assert found["waits_for"].startswith("votes of people in campaign support-0001: 0 of 4")
    assert [step["state"] for step in found["steps"]][:5] == ["done", "done", "done", "waiting", "not begun"]
    world.interrupt = _fail
    world.vote("support-0001")
    out, err = printed(capsys, "tick", "--json", code=1)
    assert json.loads(out)["failed"][0] == "train"
    assert "the disk is full; the next tick tries again" in err
    assert "train       failed" in printed(capsys, "status")[0]
    assert "cycle 1 of support: abandoned" in printed(capsys, "abandon", "--reason", "no disk")[0]
    assert "abandoned: no disk" in printed(capsys, "status")[0]


def test_ctrl_c_says_where_the_cycle_stopped_and_how_it_goes_on(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(words: tuple[str, ...], has_run: bool) -> None:
        if words[0] == "generate":
            raise KeyboardInterrupt

    (world.folder / "loop.yaml").write_text(LOOP + "schedule: none\n")
    monkeypatch.setattr("palate.loop.tick.tick.__kwdefaults__", {**_defaults(), "now": world.clock})
    world.talk()
    world.interrupt = stop
    err = printed(capsys, "tick", code=130)[1]
    assert "stopped in the step candidates; what is done is kept" in err
    assert f"palate loop tick {world.folder / 'loop.yaml'} goes on from there" in err
    world.interrupt = lambda words, has_run: None
    assert "done       candidates" in printed(capsys, "tick")[0]


def test_run_stops_where_people_must_act(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "loop.yaml").write_text(LOOP + "schedule: none\n")
    monkeypatch.setattr("palate.loop.tick.tick.__kwdefaults__", {**_defaults(), "now": world.clock})
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.talk()

    monkeypatch.setattr("time.sleep", sleep)
    assert "votes of people" in printed(capsys, "run", "--every", "7")[0]
    assert slept == [7]
    world.vote("support-0001")
    assert "done   annotate, pairs" in printed(capsys, "run", "--until", "pairs")[0]
    assert "is no step" in printed(capsys, "run", "--until", "pair", code=2)[1]


def _defaults() -> dict[str, Any]:
    from palate.loop.tick import tick

    return dict(tick.__kwdefaults__)


def _fail(words: tuple[str, ...], has_run: bool) -> None:
    from palate.errors import ArtifactError

    if words[0] == "train" and not has_run:
        raise ArtifactError("the disk is full")


def test_the_gate_names_an_api_judge_as_its_win_rate_does(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from palate.feedback.judges.load import load_judge
    from palate.loop.gate.config import load_gate_config

    for name in ("loop.yaml", "gate.yaml"):
        (world.folder / name).unlink()
    words = (
        "init",
        "--train",
        "train.yaml",
        "--prompts",
        "heldout.jsonl",
        "--judge",
        "openai:org/m@http://127.0.0.1:9/v1",
    )
    err = printed(capsys, *words)[1]
    assert [line for line in err.splitlines() if "still to do" in line and "card is missing" not in line] == []
    judge = load_gate_config(world.folder / "gate.yaml").judge
    assert judge == load_judge("openai:org/m").name
    assert world.loop.config.judge_of(judge) == "openai:org/m@http://127.0.0.1:9/v1"
