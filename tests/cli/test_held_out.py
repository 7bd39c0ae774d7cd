"""Evaluations that the store knows are left out of training data by default, by each verb that samples it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.registry.evaluations import known_evaluations
from palate.store import Store, open_store
from palate.store.loop_tables import Cycle, GateRun
from recorded import Recording

GATE, MUST_PASS = "Who wrote the first novel that was typed on a machine?", "Say no."
PLANTED = (GATE, MUST_PASS, "What is blue?")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in the current folder: a loop in `loop/` with a gate's prompts, and a gate by hand whose file is gone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").mkdir()
    for name, prompt in (("gate", GATE), ("must", MUST_PASS)):
        (tmp_path / "loop" / f"{name}.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
    opened = open_store("palate.db")
    now = datetime.now(UTC)
    loop = {"evaluate": {"must_pass": "must.jsonl", "benchmarks": {"mtbench": None, "xstest": ["x.csv"]}}}
    config = {"file": str(tmp_path / "loop" / "loop.yaml"), "loop": loop, "gate": {"prompts": "gate.jsonl"}}
    cycle = Cycle(
        loop="l", number=1, folder="f", config_hash="h", config=config, incumbent="v1.0", incumbent_hash="h",
        started=now,
    )  # fmt: skip
    verdict = {"prompts_file": str(tmp_path / "gone.jsonl")}
    gate = GateRun(
        candidate="a", incumbent="b", outcome="PASS", config_hash="h", content_hash="h", verdict=verdict, at=now
    )
    opened.write(lambda session: session.add_all([cycle, gate]))
    return opened


def mix(*more: str) -> list[str]:
    rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in PLANTED]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "mix", "a.jsonl", "-o", "mixed", *more]) == 0
    return [row["prompt"][0]["content"] for row in read_jsonl("mixed/mixed.jsonl")]


def loop_mix(*more: str) -> list[str]:
    rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in PLANTED]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["loop", "mix", "old=a.jsonl", "-o", "both", *more]) == 0
    return [row["prompt"][0]["content"] for row in read_jsonl("both/train.jsonl")]


def from_interactions(*more: str) -> list[str]:
    opened = open_store("palate.db")
    recording = Recording(opened)
    for number, prompt in enumerate(PLANTED):
        recording.rate(recording.complete("Good.", prompt=prompt, user=str(number)), thumbs="up")
    opened.close()
    assert main(["data", "from-interactions", "-o", "collected", "--share-per-user", "1", *more]) == 0
    return [row["prompt"][0]["content"] for row in read_jsonl("collected/kto.jsonl")]


@pytest.mark.parametrize("verb", [mix, loop_mix, from_interactions])
def test_prompts_of_evaluations_are_left_out_and_counted(
    verb: Callable[..., list[str]], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(verb()) == {"What is blue?"}
    said = capsys.readouterr()
    assert "left out: prompts of loop/gate.jsonl, loop/must.jsonl, which evaluate models (--keep-" in said.err
    assert "not left out: prompts of loop/x.csv, gone.jsonl, which evaluated models" in said.err
    counted = {mix: "2 held out for evaluation", loop_mix: "2 unusable: in_evaluation", from_interactions: "2 in_excl"}
    assert counted[verb] in said.out


@pytest.mark.parametrize("verb", [mix, loop_mix, from_interactions])
def test_who_says_so_keeps_them(
    verb: Callable[..., list[str]], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(verb("--keep-evaluation")) == set(PLANTED)
    assert "left out: prompts" not in capsys.readouterr().err
    assert set(verb("--keep-evaluation", "--exclude", "loop/gate.jsonl")) == {*PLANTED} - {GATE}


def test_who_keeps_them_needs_no_store_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("palate.db").write_bytes(b"no database")
    assert set(mix("--keep-evaluation")) == set(PLANTED)


def test_the_files_that_a_store_knows(store: Store, tmp_path: Path) -> None:
    known, gone = store.read(known_evaluations)
    assert [path.name for path in known] == ["gate.jsonl", "must.jsonl"]
    assert gone == [tmp_path / "loop" / "x.csv", tmp_path / "gone.jsonl"]


def test_prompts_in_a_folder_or_in_several_files_are_known_too(store: Store, tmp_path: Path) -> None:
    file, more = tmp_path / "loop" / "held" / "a.jsonl", tmp_path / "more.jsonl"
    file.parent.mkdir()
    file.touch()
    more.touch()

    def change(session: Session) -> None:
        cycle, gate = session.scalars(select(Cycle)).one(), session.scalars(select(GateRun)).one()
        cycle.config = {**cycle.config, "gate": {"prompts": "held"}}
        session.add(
            GateRun(
                candidate="a", incumbent="b", outcome="PASS", config_hash="h", content_hash="i", at=gate.at,
                verdict={"prompts_files": [str(file), str(more)]},
            )
        )  # fmt: skip

    store.write(change)
    known, _ = store.read(known_evaluations)
    assert known == [file, tmp_path / "loop" / "must.jsonl", more]
