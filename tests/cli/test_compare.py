"""`palate compare` on samples that runs took: the table on stdout, the page and the CSV on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main


def small_run(path: Path, answer: str) -> Path:
    path.mkdir()
    config = {"stage": "dpo", "model_name_or_path": "smollm2-135m-instruct", "seed": len(answer)}
    (path / "run.json").write_text(json.dumps({"status": "completed", "stage": "dpo", "config": config}))
    row = {"step": 9, "prompt": [{"role": "user", "content": "Why?"}], "policy": answer, "reference": "Dunno."}
    (path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    return path


def test_one_run_shows_the_known_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run", "Because.")
    page, table = tmp_path / "c.html", tmp_path / "c.csv"
    assert main(["compare", str(run), "-o", str(page), "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    for text in ("index", "Prompt", "DPO Model", "Reference Model", "Why?", "Because.", "Dunno."):
        assert text in out
    assert out.endswith(f"{page}\n")
    assert "Because." in page.read_text()
    assert table.read_text() == "index,Prompt,DPO Model Output,Reference Model Output\n0,Why?,Because.,Dunno.\n"


def test_machines_get_json_and_the_page_lies_with_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(small_run(tmp_path / name, f"{name} answer")) for name in ("full", "lora")]
    assert main(["compare", *runs, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["page"] == f"{runs[0]}/compare.html"
    assert Path(answer["page"]).is_file()
    prompt = [{"role": "user", "content": "Why?"}]
    outputs = {"full": "full answer", "lora": "lora answer"}
    assert answer["rows"] == [{"prompt": prompt, "outputs": outputs, "reference": "Dunno."}]


def test_what_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run", "x")
    (run / "samples.jsonl").unlink()
    assert main(["compare", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no samples.jsonl" in line
    assert main(["compare"]) == 2
