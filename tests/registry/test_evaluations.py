"""The files of evaluations that configs of loops name."""

from __future__ import annotations

from pathlib import Path

from palate.registry.evaluations import data_files


def test_a_folder_stands_for_its_data_files(tmp_path: Path) -> None:
    for name in ("llmbar/Natural/dataset.json", "llmbar/README.md", "x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = data_files(["llmbar", None, ["x.csv", "gone.csv"]], tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["llmbar/Natural/dataset.json", "x.csv", "gone.csv"]
