"""Win rates and benchmarks of palate as results by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.logs.compare import compare_items
from palate.evaluation.logs.items import ItemValues
from palate.evaluation.logs.read import read_log


def win_rate(name: str = "dpo", other: str = "base", **changes: Any) -> dict[str, Any]:
    items = [
        {"id": "p:1", "status": "judged", "score": 0.75, "group": "g"},
        {"id": "p:2", "status": "unparsed", "score": None, "group": ""},
    ]
    return {"kind": "winrate", "version": 1, "a": {"name": name}, "b": {"name": other}, "items": items, **changes}


def benchmark(sha: str = "aa", **changes: Any) -> dict[str, Any]:
    def model(name: str, *scores: float) -> dict[str, Any]:
        items = [{"id": f"q{n}", "scores": {"mc1": score, "mc2": 0.5}} for n, score in enumerate(scores)]
        return {"name": name, "items": items, "left_out": [{"id": "q9", "reason": "too_long", "detail": ""}]}

    return {
        "format": 1,
        "benchmark": "truthfulqa",
        "data": [{"name": "t.csv", "sha256": sha}],
        "models": [model("base", 0, 1), model("dpo", 1, 1)],
        **changes,
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=2))
    return path


def test_the_score_of_a_is_the_value(tmp_path: Path) -> None:
    path = write(tmp_path / "winrate.json", win_rate())
    expected = ItemValues("dpo", {"win rate against base": {"p:1": 0.75, "p:2": None}}, {}, {"p:1": "g"})
    assert read_log(path) == read_log(tmp_path) == expected
    other = write(tmp_path / "other.json", win_rate(other="gpt"))
    with pytest.raises(DataError, match="no metric in common: the first result has win rate against base"):
        compare_items(read_log(path), read_log(other))


def test_a_model_of_a_benchmark_is_named_behind_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "bench-truthfulqa.json", benchmark())
    base, dpo = read_log(Path(f"{path}@base")), read_log(Path(f"{path}@dpo"))
    assert base.name == "base"
    assert base.metrics == {
        "truthfulqa/mc1": {"q0": 0.0, "q1": 1.0, "q9": None},
        "truthfulqa/mc2": {"q0": 0.5, "q1": 0.5, "q9": None},
    }
    found = compare_items(base, dpo).metrics[0]
    assert (found.metric, found.found.n, found.found.higher, found.missing_first) == ("truthfulqa/mc1", 2, 1, 1)
    with pytest.raises(DataError, match=r"holds several models; name one of them: .*json@base, .*json@dpo"):
        read_log(path)
    with pytest.raises(DataError, match="has no model kto"):
        read_log(Path(f"{path}@kto"))
    changed = read_log(Path(f"{write(tmp_path / 'new.json', benchmark('bb'))}@dpo"))
    with pytest.raises(DataError, match="different content"):
        compare_items(base, changed)


def test_a_single_model_needs_no_name(tmp_path: Path) -> None:
    one = benchmark()
    one["models"] = one["models"][:1]
    assert read_log(write(tmp_path / "b.json", one)).name == "base"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (win_rate(version=2), "the result is of version 2, this palate reads 1"),
        (win_rate(items=[{"id": "p:1"}]), 'item p:1 has no "score"; the file is damaged'),
        (win_rate(items=[{"id": "p:1", "score": "won"}]), "item p:1: expected a number or null, found 'won'"),
        (win_rate(a={}), 'side a has no "name"'),
        (benchmark(format=3), "the result is of version 3"),
        (benchmark(models=[{"name": "m", "items": []}]), "m has no scores; run the benchmark again"),
        (benchmark(models=[{"name": "m", "items": [{"id": "q"}]}]), 'item q has no "scores"'),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_log(write(tmp_path / "r.json", content))


def test_a_judge_and_a_baseline_belong_to_the_content(tmp_path: Path) -> None:
    """The same answers under another judge, or against another baseline, are another measurement."""

    def hashes(judge: str | None, baseline: str = "x") -> set[str]:
        content = benchmark(judge=judge)
        for model in content["models"]:
            model["winrate"] = {"b": {"name": baseline}}
        return set(read_log(Path(f"{write(tmp_path / 'r.json', content)}@dpo")).hashes.values())

    assert hashes("j1") == hashes("j1")
    assert not hashes("j1") & hashes("j2")
    assert not hashes("j1") & hashes("j1", "y")
    assert not hashes("j1") & hashes(None)
