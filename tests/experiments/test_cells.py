"""Cells are made once, in order of need, in processes of their own; what changed is made anew."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _cells import Cell, CellError, Record, Workshop, held, place


def cells(folder: Path, *, factor: int = 2) -> list[Cell]:
    def base(at: Path) -> Record:
        (at / "number.txt").write_text("21", encoding="utf-8")
        with (folder / "made.txt").open("a", encoding="utf-8") as made:
            made.write("base ")
        return {"number": 21}

    def double(_: Path) -> Record:
        with (folder / "made.txt").open("a", encoding="utf-8") as made:
            made.write("double ")
        return {"number": factor * int((place(folder, "the base") / "number.txt").read_text(encoding="utf-8"))}

    return [Cell("the base", base), Cell("double", double, {"factor": factor}, needs=("the base",))]


def make(folder: Path, given: list[Cell]) -> list[Record]:
    return Workshop(folder, given).make(workers=2, threads=1, on_progress=lambda line: None)


def test_a_cell_finds_what_those_it_needs_left(tmp_path: Path) -> None:
    records = make(tmp_path, cells(tmp_path))
    assert [one["record"]["number"] for one in records] == [21, 42]
    assert all(one["peak_bytes"] > 1 << 20 and one["seconds"] >= 0 for one in records)


def test_what_is_there_is_not_made_again_and_what_changed_is(tmp_path: Path) -> None:
    make(tmp_path, cells(tmp_path))
    make(tmp_path, cells(tmp_path))
    assert (tmp_path / "made.txt").read_text(encoding="utf-8").split() == ["base", "double"]
    records = make(tmp_path, cells(tmp_path, factor=3))
    assert records[1]["record"]["number"] == 63
    assert (tmp_path / "made.txt").read_text(encoding="utf-8").split() == ["base", "double", "double"]


def test_a_torn_folder_is_made_anew(tmp_path: Path) -> None:
    left = place(tmp_path, "the base")
    left.mkdir(parents=True)
    (left / "half.txt").write_text("half", encoding="utf-8")
    make(tmp_path, cells(tmp_path))
    assert not (left / "half.txt").exists()


def test_a_failure_names_the_cell_and_keeps_what_was_made(tmp_path: Path) -> None:
    def broken(_: Path) -> Record:
        raise RuntimeError("the well is dry")

    given = [*cells(tmp_path), Cell("third", broken, needs=("double",))]
    with pytest.raises(CellError, match="third: RuntimeError: the well is dry"):
        make(tmp_path, given)
    kept = json.loads((tmp_path / "records" / "double.json").read_text(encoding="utf-8"))
    assert kept["record"] == {"number": 42}


def test_a_cell_that_comes_before_its_need_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="double"):
        Workshop(tmp_path, list(reversed(cells(tmp_path))))


def test_a_name_that_stands_twice_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(CellError, match="the base: would be made twice"):
        Workshop(tmp_path, [*cells(tmp_path), cells(tmp_path)[0]])


def test_two_runs_do_not_make_the_same_cells(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(CellError, match="still at work here"):
        make(tmp_path, cells(tmp_path))
    assert not (tmp_path / "made.txt").exists()
    assert len(make(tmp_path, cells(tmp_path))) == 2


def test_a_cell_whose_run_was_killed_keeps_the_others_out_until_it_has_ended(tmp_path: Path) -> None:
    def slow(at: Path) -> Record:
        (at / "pid.txt").write_text(str(os.getpid()), encoding="utf-8")
        until(lambda: (tmp_path / "go.txt").exists())
        return {"number": 7}

    def until(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 240
        while not holds() and time.monotonic() < end:
            time.sleep(0.02)

    run = multiprocessing.get_context("fork").Process(target=make, args=(tmp_path, [Cell("slow", slow)]))
    run.start()
    until((place(tmp_path, "slow") / "pid.txt").exists)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    with pytest.raises(CellError, match="still at work here"):
        make(tmp_path, [Cell("slow", slow)])
    (tmp_path / "go.txt").touch()
    with held(tmp_path):  # once the cell has ended
        pass
    assert [one["record"] for one in make(tmp_path, [Cell("slow", slow)])] == [{"number": 7}]
