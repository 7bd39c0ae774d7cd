"""The registry drill by the command line, and versions and aliases wherever a model is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_folders import as_run, fake_model
from palate.artifacts import read_json
from palate.cli.main import main
from palate.cli.models import model_path
from palate.registry import add, promote
from palate.store import open_store
from runs import config_file, run, values, write_rows
from runs import pairs as some_pairs
from tiny import save_tiny


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """`said(words, code)` runs a command, checks its exit code, and returns the JSON that it prints, or its error."""

    def call(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*words, *([] if code else ["--json"])]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return " ".join(err.split()) if code else json.loads(out)

    return call


def test_the_drill(said: Any, tmp_path: Path) -> None:
    for number in range(3):
        fake_model(tmp_path / f"m{number}", number)
    first = said("model", "add", "m0", "--note", "the first", "--who", "ann")
    assert (first["name"], first["new"], first["who"]) == ("v1.0", True, "ann")
    assert Path(first["folder"]).parent == tmp_path / "palate-models"
    said("model", "add", "m1")
    said("model", "add", "m2")
    assert "--reason" in said("model", "promote", "v1.0", code=2)
    said("model", "promote", "v1.0", "--reason", "first")
    moved = said("model", "promote", "v1.1", "--reason", "better")["moves"]
    assert [(move["alias"], move["before"], move["version"]) for move in moved] == [
        ("production", "v1.0", "v1.1"),
        ("previous", None, "v1.0"),
    ]
    assert model_path("production") == said("model", "show", "v1.1")["folder"]
    said("model", "rollback", "--reason", "worse")
    assert model_path("production") == first["folder"]
    listed = said("model", "list")["versions"]
    assert [(row["name"], row["aliases"]) for row in listed] == [
        ("v1.0", ["previous", "production"]),
        ("v1.1", []),
        ("v1.2", []),
    ]
    shown = said("model", "show", "production")
    assert [move["reason"] for move in shown["moves"]] == ["first", "better", "better", "worse"]
    assert said("model", "verify")["versions"] == [{"name": name, "problems": []} for name in ("v1.0", "v1.1", "v1.2")]
    weights = Path(first["folder"]) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "1 of 3 versions are damaged: v1.0" in said("model", "verify", code=1)
    assert "v1.0" in said("eval", "accuracy", "production", "--dataset", "x", "--reference", "m1", code=1)
    assert said("model", "gc", "--older-than", "0", "--dry-run")["removed"] == ["v1.2"]
    done = said("model", "gc", "--older-than", "0")
    assert (done["removed"], done["kept"]) == (["v1.2"], {"v1.0": "alias", "v1.1": "history"})
    assert len([one for one in (tmp_path / "palate-models").iterdir() if one.is_dir()]) == 2


def test_a_canary_is_set_shown_and_ended(said: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        said("model", "add", str(fake_model(tmp_path / f"m{number}", number)))
    said("model", "promote", "v1.0", "--reason", "first")
    assert said("model", "canary")["canary"] is None
    assert "name a version with its --share" in said("model", "canary", "v1.1", code=2)
    assert "needs a reason" in said("model", "canary", "v1.1", "--share", "0.1", code=2)
    said("model", "canary", "v1.1", "--share", "0.1", "--reason", "try", "--who", "ann")
    assert said("model", "canary")["canary"]["version"] == "v1.1"
    assert [canary["share"] for canary in said("model", "list")["canaries"]] == [0.1]
    main(["model", "list"])
    assert "10 % of production" in capsys.readouterr().out
    said("model", "canary", "--end", "--reason", "slow", "--who", "bob")
    assert "production has no canary" in said("model", "canary", "--end", "--reason", "r", code=2)
    said("model", "canary", "v1.1", "--share", "1", "--reason", "again")
    assert said("model", "promote", "v1.1", "--reason", "better")["ended_canary"] == "v1.1"
    main(["model", "show", "v1.1"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "production: 10 % of people get v1.1, by ann: try" in shown
    assert "production: the canary v1.1 ended, by bob: slow" in shown
    assert [move["reason"] for move in said("model", "show", "v1.1")["canaries"]][2:] == [
        "again",
        "promote of v1.1: better",
    ]


def test_names_that_are_no_versions_stay_as_they_are(tmp_path: Path) -> None:
    names = ("runs/x", "owner/name", "openai:m@http://127.0.0.1:1/v1", "smollm2-135m-instruct", "./v1.0", "p.jsonl")
    assert [model_path(name) for name in names] == list(names)
    assert model_path(None) is None
    assert not (tmp_path / "palate.db").exists(), "no database is made"
    store = open_store()
    add(store, fake_model(tmp_path / "m"), models_dir=tmp_path / "models", who="ann", name="v1.0")
    promote(store, "v1.0", reason="r", who="ann")
    store.close()
    assert [model_path(name) for name in names] == list(names)
    assert model_path("v1.0") == model_path("production") != "v1.0"
    (tmp_path / "production").mkdir()
    assert model_path("production") == "production", "a folder of that name comes first"


def test_a_run_of_voted_pairs_is_a_version_that_every_verb_reads(said: Any, tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    rows = [
        {"id": f"r{number}", **row, "lineage": {"votes": [f"vote-{number % 5}"]}}
        for number, row in enumerate(some_pairs(12))
    ]
    write_rows(tmp_path / "voted.jsonl", rows)
    run(
        Path("base"),
        Path("lora"),
        dataset="voted.jsonl",
        finetuning_type="lora",
        lora_rank=4,
        val_size=0.5,
        max_steps=2,
    )
    said("model", "add", "lora")
    said("model", "promote", "v1.0", "--reason", "r")
    shown = said("model", "show", "v1.0")
    assert shown["votes"] == {"ids": [f"vote-{number}" for number in range(5)], "in_store": 0}
    ((name, sha256),) = shown["lineage"]["data"][0]["files"].items()
    assert name == "voted.jsonl"
    assert len(sha256) == 64

    own = said("eval", "accuracy", "lora")
    versions = said("eval", "accuracy", "production")
    assert (versions["n"], versions["policy"]) == (6, own["policy"])
    assert said("model", "verify")["versions"][0]["problems"] == [], "evaluating a version changes nothing in it"
    adapter = said("data", "margins", "voted.jsonl", "-m", "v1.0", "-o", "margins.jsonl")
    assert adapter["scored"] == 12

    done = said("model", "export", "production", "--merged", "--dtype", "fp32", "--output", "merged")
    assert done["check"]["pairs"] == 6
    assert done["check"]["accuracy_difference"] == 0
    assert done["check"]["largest_logp_difference"] < 1e-3
    said("model", "add", "merged")
    given = values(Path("v1.1"), Path("next"), dataset="voted.jsonl", max_steps=1)
    said("train", str(config_file(tmp_path / "next.yaml", given)))
    assert read_json(tmp_path / "next" / "run.json")["config"]["model_name_or_path"] == model_path("v1.1")
    assert said("model", "add", "next")["base"] == "v1.1"
    assert said("model", "show", "v1.2")["from"] == ["v1.1"]


def test_what_a_person_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = as_run(fake_model(tmp_path / "base"), "owner/name", votes=("vote-1", "vote-2"))

    def printed(*words: str) -> str:
        assert main(["model", *words]) == 0
        return capsys.readouterr().out

    assert printed("add", "base", "--who", "ann").startswith("v1.0: model, 6 files, 0.0 MB, ")
    assert printed("add", "base").startswith("v1.0 (there already): ")
    folder = tmp_path / "palate-models"
    first = next(one for one in folder.iterdir() if one.is_dir())
    as_run(fake_model(tmp_path / "next", 1.0), first)
    printed("add", "next", "--name", "better", "--note", "two\nlines", "--who", "ann")
    assert printed("promote", "better", "--alias", "candidate", "--reason", "it wins", "--who", "bob") == (
        "candidate: none → better\n"
    )
    assert printed("promote", "better", "--alias", "candidate", "--reason", "r") == (
        "candidate is better already; nothing moved\n"
    )
    rows = [line.split() for line in printed("list").splitlines()]
    assert [row[:3] for row in rows[2:]] == [["v1.0", "–", "model"], ["better", "candidate", "model"]]
    shown = printed("show", "v1.0")
    assert "votes    2 (--votes lists them), 0 of them in this store" in shown
    assert f"run      {base}: dpo sigmoid" in shown
    assert f"data     pairs: pairs.jsonl {'a' * 12}\n" in shown
    shown = printed("show", "candidate")
    assert "versions  better ← v1.0" in shown
    assert "candidate: none → better, by bob: it wins" in shown
    assert printed("verify", "better") == "better: every file has its hash\n"
    assert printed("gc") == "0 versions deleted, 0.0 MB: none\nstay: v1.0 (child), better (alias)\n"
