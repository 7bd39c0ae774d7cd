"""Results become Markdown, and only between a page's comments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tables

REPOSITORY = Path(__file__).resolve().parents[2]
MACHINE = {"machine": {"cpu": "Made Up"}}


def test_fill_replaces_between_the_comments_only() -> None:
    page = "before\n<!-- table a -->\nold\n<!-- end a -->\nafter <!-- table b -->\n<!-- end b -->\n"
    assert tables.fill(page, {"a": r"new \1", "c": "lost"}) == (
        "before\n<!-- table a -->\n\nnew \\1\n\n<!-- end a -->\nafter <!-- table b -->\n<!-- end b -->\n"
    )


def test_filling_twice_changes_nothing() -> None:
    page = "<!-- table a -->\n<!-- end a -->\n"
    once = tables.fill(page, {"a": "x"})
    assert tables.fill(once, {"a": "x"}) == once


def test_the_pages_have_a_place_for_every_table() -> None:
    page = "".join((REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("performance.md", "plan.md"))
    filled = tables.fill(page, {name: f"here is {name}" for name in tables.TABLES})
    for name in tables.TABLES:
        assert f"here is {name}\n" in filled


def test_a_table_without_results_says_so(tmp_path: Path) -> None:
    assert tables.render_all(tmp_path) == dict.fromkeys(tables.TABLES, "Not measured yet.")


def test_a_folder_without_results_leaves_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table scaling -->\nmeasured\n<!-- end scaling -->\n")
    for arguments, said in (([str(page), "--results", "nosuch"], "nosuch holds no"), (["no.md"], "no.md is not there")):
        monkeypatch.setattr("sys.argv", ["tables.py", *arguments])
        with pytest.raises(SystemExit, match="2"):
            tables.main()
        assert said in capsys.readouterr().err
    assert "measured" in page.read_text()


def test_results_of_other_scripts_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"command": "x", "rows": []}), encoding="utf-8")
    assert tables.render_all(tmp_path) == dict.fromkeys(tables.TABLES, "Not measured yet.")


def test_a_series_is_rendered_with_its_own_columns(tmp_path: Path) -> None:
    result = {
        **MACHINE,
        "benchmark": "scaling",
        "series": "length",
        "title": "Length",
        "columns": ["tokens", "s per group", "of TRL's"],
        "rows": [{"tokens": 128, "s per group": 0.123456, "of TRL's": ""}, {"tokens": 256}],
    }
    (tmp_path / "scaling-length.json").write_text(json.dumps(result), encoding="utf-8")
    assert tables.render_all(tmp_path)["scaling"] == (
        "**Length** (Made Up, no bf16)\n\n"
        "| tokens | s per group | of TRL's |\n| --- | ---: | ---: |\n| 128 | 0.1235 |  |\n| 256 |  |  |"
    )


def test_what_helped_stands_apart_from_what_did_not(tmp_path: Path) -> None:
    def row(name: str, kept: bool) -> dict[str, object]:
        return {"name": name, "kept": kept, "before": {"median": 0.02}, "after": {"median": 0.01}, "ratio": 2.0}

    result = {**MACHINE, "benchmark": "pieces", "rows": [row("a → b", True), row("c → d", False)]}
    (tmp_path / "pieces.json").write_text(json.dumps(result), encoding="utf-8")
    kept, left_out = tables.render_all(tmp_path)["pieces"].split("Tried and left out:")
    assert kept.startswith("Made Up, no bf16.\n\nIn palate:")
    assert "| a → b | 20.0 | 10.0 | **2.00×** |" in kept
    assert "c → d" in left_out
    assert "a → b" not in left_out


def test_rows_of_two_machines_stand_under_their_own(tmp_path: Path) -> None:
    machines = {
        "slow": {"cpu": "Made Up", "products": {"fp32": 171e9}},
        ".": {"cpu": "Made Up avx512_bf16", "products": {"bf16": 440.4e9, "fp32": 206e9}},
    }
    for folder, machine in machines.items():
        row = {"name": folder, "kept": True, "before": {"median": 0.02}, "after": {"median": 0.01}, "ratio": 2.0}
        result = {"benchmark": "pieces", "machine": machine, "rows": [row]}
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "pieces.json").write_text(json.dumps(result), encoding="utf-8")
    first, second = tables.render_all(tmp_path)["pieces"].split("Made Up")[1:]
    assert first.startswith(" avx512_bf16 (bf16 440, fp32 206 GFLOP/s).")
    assert "| . |" in first
    assert "| slow |" not in first
    assert second.startswith(", no bf16 (fp32 171 GFLOP/s).")
    assert "| slow |" in second


def test_every_recorded_result_says_what_its_machine_multiplies() -> None:
    paths = (REPOSITORY / "benchmarks" / "results").rglob("*.json")
    recorded = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    with_rates = tables.TABLES.keys() - {"soak"}  # which counts, beside other work
    machines = [result["machine"] for result in recorded if result.get("benchmark") in with_rates]
    assert machines
    for machine in machines:
        assert machine["products"]["fp32"] > 0
        assert ("bf16" in machine["products"]) == ("bf16" in machine["cpu"])
