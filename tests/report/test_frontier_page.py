"""The folder of a frontier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.errors import ArtifactError
from palate.report.frontier_page import check_folder, half_width, write_frontier


def interval(estimate: float, half: float = 0.5) -> dict[str, Any]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "level": 0.95, "n": 9}


def point(name: str, kl: float, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "group": None,
        "method": None,
        "step": None,
        "model": "models/<base>",
        "reference": name == "reference",
        "rewards": {"length:longer": interval(7 + kl)},
        "kl": interval(kl),
        "kl_sampled": interval(kl, 1.0),
        "tokens": interval(20),
        "ended": interval(0.5),
        "distinct": interval(1.0),
        **changed,
    }


def frontier() -> dict[str, Any]:
    steps = [point(f"dpo/checkpoint-{n}", n / 10, group="dpo", step=n, method="dpo sigmoid") for n in (10, 20)]
    return {
        "rewards": ["length:longer"],
        "points": [point("reference", 0) | {"kl": interval(0, 0)}, *steps],
        "prompts": 9,
        "samples": 4,
        "left_out": 2,
        "max_new_tokens": 64,
        "seed": 42,
        "precision": "fp32",
    }


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
