"""`palate loop mix`, and the way from a served answer back to the votes that its version learnt from."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from labelling import labelling
from palate.cli.main import main
from palate.store import open_store
from recorded import Recording
from runs import run, write_rows
from tiny import save_tiny


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`said(words, code)` runs a command in an own folder and returns the JSON that it prints, or its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)

    def call(*words: str, code: int = 0, as_json: bool = True) -> Any:
        capsys.readouterr()
        found = main([*words, *(["--json"] if as_json and not code else [])])
        out, err = capsys.readouterr()
        assert found == code, err
        return " ".join(err.split()) if code else json.loads(out) if as_json else " ".join(out.split())

    return call


def test_a_served_answer_names_the_votes_that_its_version_learnt_from(said: Any, tmp_path: Path) -> None:
    with closing(open_store(None, create=True)) as store:
        campaign = labelling(store, 6)
        votes = {}
        for _ in range(6):
            task = campaign.label()
            votes[campaign.votes()[-1].id] = task.item
        recorded = Recording(store)
        corrected = recorded.complete("The sea.", prompt="What is blue?", model="v0.9")
        recorded.rate(corrected, edit="The sky.")
    said("label", "export", "--to", "palate", "-o", "people.jsonl", "--voters", "people")
    said("data", "from-interactions", "-o", "collected", "--share-per-user", "1")
    write_rows(tmp_path / "judge.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    given = ("people=people.jsonl", "edits=collected/pairs.jsonl", "judge=judge.jsonl")
    mixed = said("loop", "mix", *given, "--weight", "judge=0.5", "-o", "mixed")
    assert mixed["kinds"] == {"human": 7, "machine": 1}
    shown = said("loop", "mix", *given, "--weight", "judge=0.5", "-o", "mixed", as_json=False)
    assert "compared by 7 human, 1 machine" in shown
    save_tiny(tmp_path / "base")
    run(Path("base"), Path("dpo"), dataset="mixed", max_steps=1)
    card = (tmp_path / "dpo" / "README.md").read_text()
    assert "7 human, 1 machine" in card
    assert "| judge | machine | 1 | 12.5% | 0.5 | 6.7% |" in card  # 0.5 / 7.5
    said("model", "add", "dpo", "--name", "v1.0")

    with closing(open_store(None)) as store:
        answer = Recording(store).complete("Blue.", model="v1.0")
    [learnt] = said("model", "show", answer, "--votes")["learnt_from"]
    assert learnt["version"] == "v1.0"
    assert {vote["id"]: vote["item"] for vote in learnt["votes"]} == votes
    assert {vote["by"] for vote in learnt["votes"]} == {"person"}
    assert learnt["interactions"] == [corrected]
    text = said("model", "show", "v1.0", "--votes", as_json=False)
    assert "v1.0 learnt from 6 votes, 1 interactions:" in text
    assert f"interaction {corrected}" in text
    forgotten = said("interactions", "delete", corrected, "--yes")
    assert forgotten["trained"] == ["v1.0"]


def test_what_mix_refuses(said: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    assert "write NAME=FILE" in said("loop", "mix", "a.jsonl", "-o", "out", code=2)
    assert "--weight b: is no source here" in said("loop", "mix", "a=a.jsonl", "--weight", "b=1", "-o", "out", code=2)
    assert "a source is named twice" in said("loop", "mix", "a=a.jsonl", "a=a.jsonl", "-o", "out", code=2)
