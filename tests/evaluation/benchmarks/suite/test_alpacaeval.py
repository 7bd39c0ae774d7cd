"""AlpacaEval: its files, and the figures of `--compat alpaca_eval`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.benchmarks.judged.benchmark import JudgedData
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.benchmarks.suite.alpacaeval import published, read
from palate.evaluation.winrate.items import VerdictRow, WinRateItem
from palate.feedback.candidates import Candidates
from palate.records import Answer, Message
from palate.stats import alpaca_eval_rate


def output(number: int, **more: Any) -> dict[str, Any]:
    return {"instruction": f"do {number}", "output": f"done {number}", "generator": "base", "dataset": "d", **more}


def data(folder: Path, rows: list[dict[str, Any]], **tables: str) -> JudgedData:
    (folder / "alpaca_eval.json").write_text(json.dumps(rows))
    paths = [folder / "alpaca_eval.json"]
    for name, text in tables.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(text)
    return read([read_file(path) for path in paths], JudgeOptions())


def test_the_published_file(shared_data: Callable[[str], Path]) -> None:
    found = read([read_file(shared_data("benchmark/alpacaeval_805_example_outputs.json"))], JudgeOptions())
    assert len(found.questions) == 805
    assert Counter(question.category for question in found.questions) == {
        "selfinstruct": 252, "oasst": 188, "koala": 156, "helpful_base": 129, "vicuna": 80,
    }  # fmt: skip
    assert found.baseline is not None
    assert (found.baseline.name, len(found.baseline.answers)) == ("example", 805)


def test_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: has the instruction of .*row 1 again; remove one"):
        data(tmp_path, [output(1), output(1)])
    with pytest.raises(DataError, match=r"row 2: has no text named output"):
        data(tmp_path, [output(1), {"instruction": "x"}])
    with pytest.raises(DataError, match=r"difficulty of 1 instructions, not of 2"):
        data(tmp_path, [output(1), output(2)], instruction_difficulty="index,instruction_difficulty\n0,0.5\n")


def test_the_files_of_the_formula(tmp_path: Path) -> None:
    table = (
        "model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline\n"
        "long,0,0.9,-2.0,0.5,False\nlong,1,,-1.0,-0.5,False\nshort,0,0.1,2.0,0.5,False\nshort,1,0.2,1.0,-0.5,False\n"
    )
    found = data(tmp_path, [output(0), output(1)], df_gamed=table)
    assert [question.difficulty for question in found.questions] == [0.5, -0.5]
    assert found.gamed is not None
    # The row without a preference is left out.
    assert list(zip(found.gamed.preferences, found.gamed.lengths)) == [(0.9, -2.0), (0.1, 2.0), (0.2, 1.0)]


def item(number: int, share: float, a: str, b: str) -> WinRateItem:
    row = Candidates(str(number), (Message("user", "q"),), (Answer(a, "stop"), Answer(b, "stop")))
    return WinRateItem(str(number), "judged", verdicts=(VerdictRow(share, 1),), row=row)


def test_figures_of_its_own_definition(tmp_path: Path) -> None:
    rows = [output(number) for number in range(1, 9)]
    found = data(tmp_path, rows)
    shares = [1, 1, 0, 0.5, 1, 0, 1, 0]
    items = [item(n, share, "x" * (3 * n), "y" * 10) for n, share in enumerate(shares, 1)]
    items.append(WinRateItem("9", "unparsed", "?"))
    win_rate, controlled = published(items, [], found, JudgeOptions(compat="alpaca_eval"))
    assert win_rate.estimate == pytest.approx(4.5 / 8)
    assert win_rate.interval is not None
    assert win_rate.interval.n == 8
    # Baseline minus model, as it has it.
    assert controlled.estimate == alpaca_eval_rate(shares, [10 - 3 * n for n in range(1, 9)])
    assert controlled.interval is None
    assert "lc_standard_error is not used" in controlled.note
    assert "terms: length; give df_gamed.csv" in controlled.note
    assert published(items, [], found, JudgeOptions()) == []
