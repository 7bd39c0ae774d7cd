"""`palate loop canary`: the decision, its exit code, and the canary that it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_folders import fake_model
from palate.cli.main import main
from palate.registry import add, canary_of, promote, set_canary
from palate.serving.recording import Recorder, shared_secret
from palate.serving.recording.entries import NewInteraction, RecordedChoice
from palate.store import open_store


def test_a_broken_canary_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store()
    for number in range(2):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="t")
    promote(store, "v1.0", reason="r", who="t")
    assert main(["loop", "canary"]) == 2
    set_canary(store, "v1.1", 0.5, who="t", reason="r")
    assert main(["loop", "canary"]) == 3
    out = capsys.readouterr().out
    assert "nothing is recorded" in out
    assert "detectable  with 200 answers and thumbs of the canary: errors +" in out
    recorder = Recorder(store, secret=shared_secret(store))
    for number in range(30):
        for version in ("v1.0", "v1.1"):
            entry = NewInteraction(
                endpoint="chat",
                prompt="x",
                model=version,
                policy="metadata",
                user=f"{version}-{number}",
                route="canary:production",
            )
            made = recorder.reserve(entry)
            assert made is not None
            if version == "v1.0":
                recorder.update(made, "complete", [RecordedChoice("y", "stop")])
            else:
                recorder.update(made, "upstream_error", error="broken")
    assert main(["loop", "canary", "--set", "errors=2"]) == 2
    assert "errors must be below 1, not 2" in capsys.readouterr().err
    assert main(["loop", "canary", "--set", "error=0.1"]) == 2
    assert "--set: error" in capsys.readouterr().err
    assert main(["loop", "canary", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["outcome"], printed["checks"][0]["state"]) == ("ZERO", "worse")
    assert store.read(canary_of) is not None, "nothing is changed without --zero"
    assert main(["loop", "canary", "--zero"]) == 1
    assert store.read(canary_of) is None
    store.close()
