"""What is found below the folders, and what is left out with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palate.artifacts import write_json
from palate.web.trainings import folders
from palate.web.trainings.folders import find_entries
from run_files import write_run


def run_at(path: Path, at: float = 0.0) -> Path:
    write_json(path / "run.json", {"status": "completed"})
    os.utime(path / "run.json", (at, at))
    return path


def test_kinds_and_names_of_one_folder(tmp_path: Path) -> None:
    run_at(tmp_path / "dpo", 100)
    run_at(tmp_path / "rounds" / "round-1", 300)
    write_json(tmp_path / "rounds" / "pipeline.json", {})
    os.utime(tmp_path / "rounds" / "pipeline.json", (200, 200))
    write_json(tmp_path / "grid" / "sweep.json", {})
    write_json(tmp_path / "judged" / "winrate.json", {})
    write_json(tmp_path / "judged" / "sweep.json", {})  # of temperatures
    write_json(tmp_path / "bench" / "bench-xstest.json", {})
    (tmp_path / "notes").mkdir()
    run_at(tmp_path / "dpo" / "checkpoint-10")
    run_at(tmp_path / ".dpo.tmp")
    found = find_entries([tmp_path])
    assert {name: entry.kind for name, entry in found.entries.items()} == {
        "dpo": "run",
        "rounds/round-1": "run",
        "rounds": "pipeline",
        "grid": "sweep",
        "judged": "result",
        "bench": "result",
    }
    assert [entry.name for entry in found.of("run", "pipeline")] == ["rounds/round-1", "rounds", "dpo"]
    assert found.entries["bench"].results == ("bench-xstest.json",)
    assert found.notices == []


def test_several_folders_have_their_names_in_front(tmp_path: Path) -> None:
    run_at(tmp_path / "a" / "runs" / "dpo")
    run_at(tmp_path / "b" / "runs" / "dpo")
    run_at(tmp_path / "alone")
    found = find_entries([tmp_path / "a" / "runs", tmp_path / "b" / "runs", tmp_path / "alone", tmp_path / "gone"])
    assert set(found.entries) == {"a/runs/dpo", "b/runs/dpo", f"{tmp_path.name}/alone"}
    assert found.notices == [f"{tmp_path.name}/gone: there is no such folder"]
    assert set(find_entries([tmp_path / "a", tmp_path]).entries) == {
        "a/runs/dpo",
        f"{tmp_path.name}/b/runs/dpo",
        f"{tmp_path.name}/alone",
    }


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "outside" / "secret", steps=4)
    (outside / "report.html").write_text("secret")
    runs = tmp_path / "runs"
    write_run(runs / "mine", steps=4)
    (runs / "mine" / "metrics.jsonl").unlink()
    (runs / "mine" / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    (runs / "mine" / "report.html").symlink_to(outside / "report.html")
    (runs / "link").symlink_to(outside)
    (runs / "again").symlink_to(runs / "mine")
    (runs / "itself").symlink_to(runs / "itself")
    (runs / "mine" / "data.json.link").symlink_to(runs / "mine" / "data.json.link")
    found = find_entries([runs])
    assert set(found.entries) == {"mine"}
    assert found.entries["mine"].reports == ()
    assert found.entries["mine"].problem == "metrics.jsonl is a link out of the folder and is not read"
    assert found.notices == ["link: is a link out of the folder, not followed; name its target with --runs"]


def test_a_folder_with_too_many_folders_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOST_FOLDERS", 3)
    for name in "abcd":
        run_at(tmp_path / name)
    (notice,) = find_entries([tmp_path]).notices
    assert "has more than 3 folders" in notice


def test_names_that_are_no_text_are_shown_and_break_nothing(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/runs/\xff")  # noqa: PTH103 - a name that is no UTF-8
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/runs/\xff")) / "run.json").write_text("{}")
    assert set(find_entries([tmp_path / "runs"]).entries) == {"\ufffd"}
