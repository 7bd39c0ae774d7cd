"""What a kill in the middle of publishing leaves behind."""

from __future__ import annotations

from pathlib import Path

from palate.artifacts import RunDir, write_json
from palate.training.checkpoints import publish


def test_the_next_claim_sweeps_a_half_published_model_away(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "running"})
    scratch = tmp_path / publish._SCRATCH
    scratch.mkdir()
    (scratch / "model.safetensors").write_bytes(b"half")
    folder = RunDir.claim(tmp_path, resume=True)
    folder.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "run.json"]
