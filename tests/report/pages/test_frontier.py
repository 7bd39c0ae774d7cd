"""The folder of a frontier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.errors import ArtifactError
from palate.report.pages.frontier import check_folder, frontier_table, half_width, write_frontier
from stage_runs import frontier, interval


def test_three_files_and_a_page_that_shows_them(tmp_path: Path) -> None:
    folder = tmp_path / "frontier"
    write_frontier(folder, frontier(), [{"text": "a\u2028b", "kl": float("inf")}])
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "frontier.json", "report.html"]
    assert json.loads((folder / "frontier.json").read_text())["points"][2]["step"] == 20
    assert json.loads((folder / "answers.jsonl").read_text()) == {"text": "a\u2028b", "kl": None}
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "models/&lt;base&gt;" in page
    assert "8 (7.5 to 8.5)" in page
    assert "step 20" in page
    assert "2, too long" in page
    assert "1 (0.5 to 1.5)" in page


def test_an_earlier_frontier_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "frontier"
    write_frontier(folder, frontier(), [{"text": "old"}])
    write_frontier(folder, frontier(), [])
    assert (folder / "answers.jsonl").read_text() == ""
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds files that are no frontier \(notes.txt\)"):
        write_frontier(folder, frontier(), [])
    assert (folder / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match="choose another --output"):
            check_folder(place)


def test_half_widths() -> None:
    assert half_width(interval(1.234, 0.05)) == "1.23\u00a0±\u00a00.05"
    assert half_width({"estimate": 0.0, "low": 0.0, "high": 0.0}) == "0"
    assert half_width({"estimate": 2.0, "low": None, "high": None}) == "2"


def test_ended_and_distinct_are_before_what_may_be_out_of_view() -> None:
    table = frontier_table(frontier())
    names = list(table.columns)
    assert names[:7] == ["point", "method", "step", "length:longer", "KL", "ended", "distinct"]
    assert table.rows[1][names.index("ended")] == "50 %"
    plain = frontier()
    for one in plain["points"]:
        one |= {"method": None, "step": None}
    assert list(frontier_table(plain).columns)[:5] == ["point", "length:longer", "KL", "ended", "distinct"]
