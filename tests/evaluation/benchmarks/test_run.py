"""`run_benchmark` on tiny models: before and after, resuming, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json, read_jsonl
from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks import BenchmarkOptions, run_benchmark
from palate.evaluation.subject import Subject
from tiny import save_tiny


def row(question: str, *, answer: str = "it was not") -> dict[str, Any]:
    return {
        "question": question,
        "mc0_targets": {"it is": 1, answer: 0},
        "mc1_targets": {"it is": 1, answer: 0, "what they said": 0},
        "mc2_targets": {"it is": 1, "that is so": 1, answer: 0},
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps([row(f"is it {number}?") for number in range(40)]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads prompts of 1,000 tokens."""
    folder = tmp_path_factory.mktemp("big") / "llama"
    return save_tiny(folder, initializer_range=0.2, max_position_embeddings=4096)


def test_a_run_is_compared_with_its_reference(finished: Path, data: Path, tmp_path: Path) -> None:
    # The chat form: the plain prompt with its examples is longer than the tiny model's 512 positions.
    options = BenchmarkOptions(data=[data], prompt="chat", precision="fp32", output=tmp_path / "out")
    result = run_benchmark("TruthfulQA", [str(finished)], options)
    assert [model.name for model in result.models] == ["before", "run"]
    assert result.models[0].identity != result.models[1].identity
    assert result.items == len(result.models[0].scores) == 40
    [comparison] = result.comparisons
    assert (comparison.before, comparison.after, comparison.items) == ("before", "run", 40)
    by_metric = {one.metric: one for one in comparison.differences}
    assert {name: one.test for name, one in by_metric.items()} == {
        "mc1": "mcnemar_midp",
        "mc2": "paired_t",
        "binary": "mcnemar_midp",
    }
    written = read_json(tmp_path / "out" / "bench-truthfulqa.json")
    first = written["models"][0]
    assert [item["id"] for item in first["items"]] == [str(number) for number in range(1, 41)]
    mean = sum(item["scores"]["mc2"] for item in first["items"]) / 40
    assert by_metric["mc2"].before.estimate == pytest.approx(mean)
    assert written["protocol"].startswith("the question as a user turn")
    assert written["deviations"]
    assert len(written["data"][0]["sha256"]) == 64
    alone = run_benchmark(
        "truthfulqa", [str(finished)], BenchmarkOptions(data=[data], prompt="chat", precision="fp32", reference=False)
    )
    assert [model.name for model in alone.models] == ["run"]
    assert alone.models[0].scores == result.models[1].scores
    assert not alone.comparisons


def test_a_second_call_scores_nothing(big: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BenchmarkOptions(data=[data], precision="fp32", output=tmp_path / "out")
    first = run_benchmark("truthfulqa", [str(big)], options)
    kept = tmp_path / "out" / "bench-truthfulqa.scores.jsonl"
    assert [len(line["outcomes"]) for line in read_jsonl(kept)] == [32, 8]
    scored = []
    real = Subject.score
    monkeypatch.setattr(Subject, "score", lambda self, groups: scored.append(len(groups)) or real(self, groups))
    assert run_benchmark("truthfulqa", [str(big)], options) == first
    assert scored == []
    # A kill in the second batch leaves its line cut: only that batch is scored again, and the result is the same.
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(lines[0] + lines[1][:50])
    assert run_benchmark("truthfulqa", [str(big)], options) == first
    assert scored == [8]
    # Other weights, and other prompts, find nothing.
    other = save_tiny(tmp_path / "other", seed=1, initializer_range=0.2, max_position_embeddings=4096)
    run_benchmark("truthfulqa", [str(other)], options)
    assert scored == [8, 32, 8]


def test_a_subset_is_drawn_with_the_seed(big: Path, data: Path) -> None:
    def ids(seed: int) -> list[str]:
        options = BenchmarkOptions(data=[data], max_samples=5, seed=seed, prompt="chat")
        return list(run_benchmark("truthfulqa", [str(big)], options).models[0].scores)

    assert ids(0) == ids(0) == sorted(ids(0), key=int)
    assert len(ids(0)) == 5
    assert ids(0) != ids(1)


def test_items_that_do_not_fit_are_listed_and_not_scored(big: Path, tmp_path: Path) -> None:
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps([row("is it so?"), row("is it not?", answer="no " * 300)]), encoding="utf-8")
    options = BenchmarkOptions(data=[path], prompt="chat", cutoff_len=200)
    [model] = run_benchmark("truthfulqa", [str(big)], options).models
    assert list(model.scores) == ["1"]
    assert [(one.id, one.reason) for one in model.left_out] == [("2", "too_long")]
    assert "mc_task.json, row 2" in model.left_out[0].detail
    assert model.rates[0].mean.n == 1
    with pytest.raises(DataError, match=r"no item of TruthfulQA can be scored \(too_long 2\)"):
        run_benchmark("truthfulqa", [str(big)], BenchmarkOptions(data=[path], prompt="chat", cutoff_len=10))


def test_a_models_own_limit_counts(model: Path, data: Path) -> None:
    """The tiny model was made for 512 tokens, and the plain prompt has more."""
    with pytest.raises(DataError, match="the longest sequence is 512 tokens"):
        run_benchmark("truthfulqa", [str(model)], BenchmarkOptions(data=[data]))


def test_what_cannot_be_measured(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = BenchmarkOptions(data=[data])
    with pytest.raises(UsageError, match="there is no benchmark 'truthfullqa'; did you mean truthfulqa"):
        run_benchmark("truthfullqa", [str(model)], options)
    with pytest.raises(UsageError, match="is named twice"):
        run_benchmark("truthfulqa", [str(model), str(model)], options)
    with pytest.raises(UsageError, match="length:longer is a judge; TruthfulQA measures a policy"):
        run_benchmark("truthfulqa", ["length:longer"], options)
    with pytest.raises(DataError, match="no such file or folder; --data names the files of TruthfulQA"):
        run_benchmark("truthfulqa", [str(model)], BenchmarkOptions(data=[tmp_path / "nothing.json"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of TruthfulQA in this folder"):
        run_benchmark("truthfulqa", [str(model)], BenchmarkOptions(data=[tmp_path / "empty"]))
    with pytest.raises(DataError, match=r"truthfulqa/truthful_qa.*or name local files with --data"):
        run_benchmark("truthfulqa", [str(model)])
