"""The comparison notices when both sides did not do the same; palate's side runs on a tiny model."""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _palate_child
import pytest
import torch
import train_speed
from _measure import run_child
from safetensors.torch import save_file

OPTIONS = argparse.Namespace(
    mode="full", epochs=1, precision="fp32", prompt_ratio=0.0, warm_store=False, pairs=2, batch=1, cutoff_len=8
)
ROWS = [{"prompt": [1, 2], "completions": [[3], [4, 5]]}, {"prompt": [6], "completions": [[7], [8]]}]
STEPS = [
    {"loss": 0.6931, "logps/chosen": -30.0, "logps/rejected": -20.0},
    {"loss": 0.6800, "logps/chosen": -10.0, "logps/rejected": -50.0},
]


WAY = {"tensors": 1, "cosine": 0.99}


def sides() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What was described, and a run of each side that agrees with it."""
    described = {
        "rows": ROWS,
        "orders": [[1, 0]],
        "trainable": ["a"],
        "trainable_parameters": 10,
        "identity": "id",
    }
    ours = {"steps": STEPS, "trainable_parameters": 10, "identity": "id", "groups": 2}
    theirs = {"steps": STEPS, "rows": ROWS, "orders": [[1, 0]], "trainable": ["a"]}
    # One by one: copied together they would go on sharing rows and steps.
    return copy.deepcopy(described), copy.deepcopy(ours), copy.deepcopy(theirs)


def failed(change: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], None]) -> list[str]:
    described, ours, theirs = sides()
    change(described, ours, theirs)
    return [name for name, ok in train_speed.checks([ours], [theirs], described, WAY, OPTIONS).items() if not ok]


def test_equal_sides_pass() -> None:
    assert failed(lambda described, ours, theirs: None) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, a, b: b["rows"][0]["prompt"].append(9), "token ids"),
        (lambda d, a, b: d["rows"].pop(), "every pair is trained on"),
        (lambda d, a, b: d["rows"][0]["prompt"].extend(range(9)), "fits cutoff_len"),
        (lambda d, a, b: b["orders"][0].reverse(), "same order"),
        (lambda d, a, b: b["trainable"].append("b"), "same names"),
        (lambda d, a, b: a.update(identity="another"), "what was described"),
        (lambda d, a, b: a["steps"].pop(), "every step"),
        (lambda d, a, b: a["steps"][1].update(loss=0.6803), "losses of every step"),
        (lambda d, a, b: a["steps"][1].update({"logps/rejected": -50.1}), "log-probabilities"),
        (lambda d, a, b: [side["steps"][1].update(loss=0.6931) for side in (a, b)], "losses moved"),
    ],
)
def test_each_difference_is_noticed(change: Callable[..., None], words: str) -> None:
    assert any(words in name for name in failed(change))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("way", [{"tensors": 4, "cosine": 0.0}, {"tensors": 4, "cosine": -0.9}, {"tensors": 0}])
def test_a_side_that_trains_otherwise_is_noticed_in_either_precision(precision: str, way: dict[str, Any]) -> None:
    described, ours, theirs = sides()
    options = argparse.Namespace(**{**vars(OPTIONS), "precision": precision})
    found = train_speed.checks([ours], [theirs], described, way, options)
    assert [name for name, ok in found.items() if not ok] == [
        f"weights moved the same way, to a cosine of {train_speed.SAME_WAY[precision]:g}"
    ]


def test_the_way_of_weights_is_that_of_their_changes(tmp_path: Path) -> None:
    start = {"a.lora_A.default.weight": torch.ones(2), "b": torch.ones(2, 2)}
    ends = {
        "ours": {"a.lora_A.weight": torch.tensor([2.0, 1.0]), "b": torch.ones(2, 2), "unchanged": torch.ones(1)},
        "same": {"a.lora_A.default.weight": torch.tensor([3.0, 1.0]), "b": torch.ones(2, 2)},
        "across": {"a.lora_A.default.weight": torch.tensor([1.0, 3.0]), "b": torch.ones(2, 2)},
        "nothing": start,
    }
    for name, tensors in {"start": start, **ends}.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    job = {name: str(tmp_path / f"{name}.safetensors") for name in ("start", "ours")}
    found = [
        _palate_child.compare_ways({**job, "theirs": str(tmp_path / f"{name}.safetensors")})
        for name in ("same", "across", "nothing")
    ]
    assert found == [{"tensors": 2, "cosine": cosine} for cosine in (1.0, 0.0, 0.0)]


def test_a_loss_that_is_no_number_is_no_equal_loss() -> None:
    assert failed(lambda d, a, b: a["steps"][1].update(loss=float("nan")))


def test_ratios_are_those_of_medians() -> None:
    described, ours, theirs = sides()
    timed = [
        [{**run, "seconds": s, "peak_bytes": s * 10, "wall_seconds": s + 1, "timings": {}} for s in seconds]
        for run, seconds in ((ours, (1.0, 2.0, 9.0)), (theirs, (8.0, 9.0, 1.0)))
    ]
    result = train_speed.figures(timed[0], timed[1], described, OPTIONS)
    assert result["ratios"] == {"pairs_per_second": 4.0, "peak_memory": 0.25}
    assert result["palate"]["pairs_per_second"] == 1.0
    assert result["palate"]["useful_tokens_per_second"] == (2 + 3 + 1 + 2) / 2.0


@pytest.mark.parametrize(("mode", "names"), [("lora", "lora_A"), ("last", "lm_head")])
def test_what_is_described_is_what_trains(
    tiny_folder: Path, source: Path, tmp_path: Path, mode: str, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_speed, "LAST_LAYERS", 1)
    options = argparse.Namespace(
        mode=mode, epochs=2, precision="fp32", batch=2, cutoff_len=120, learning_rate=1e-3, beta=0.1, pairs=5
    )
    pairs = tmp_path / "pairs.jsonl"
    made = _palate_child.make_pairs(
        {
            "model": str(tiny_folder),
            "source": str(source),
            "rows": 5,
            "cutoff_len": 120,
            "prompt_ratio": 0.0,
            "pairs": str(pairs),
            "untied": str(tmp_path / "untied") if mode == "last" else "",
        }
    )
    config = {**train_speed.palate_config(options, made["model"], pairs), "torch_threads": 1}
    described = _palate_child.describe({"config": {**config, "output_dir": str(tmp_path / "described")}})
    run = _palate_child.train_once({"config": {**config, "output_dir": str(tmp_path / "run")}})
    assert [sorted(order) for order in described["orders"]] == [list(range(5))] * 2
    assert described["orders"][0] != described["orders"][1]
    assert any(names in name for name in described["trainable"])
    assert run["trainable_parameters"] == described["trainable_parameters"]
    assert run["identity"] == described["identity"]
    assert len(run["steps"]) == 6
    assert run["seconds"] > 0


def test_every_task_that_a_runner_names_is_known() -> None:
    scripts = Path(train_speed.__file__).parent.glob("[a-z]*.py")
    named = {task for script in scripts for task in re.findall(r'"do": "(\w+)"', script.read_text(encoding="utf-8"))}
    assert len(named) > 8
    # TRL's own tasks, which only its environment can import, and those of other scripts' own children.
    elsewhere = {"tokenise", "sample", "batch", "facts", "make", "attention", "simulate", "write_shards", "write_model"}
    assert named - _palate_child.TASKS.keys() == elsewhere


def test_a_failing_child_ends_the_benchmark_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("raise KeyError('what it said')")
    with pytest.raises(SystemExit, match=r"failed at nonsense with exit code 1:\n[\s\S]*what it said"):
        run_child(sys.executable, str(script), {"do": "nonsense"}, tmp_path)


def test_a_child_that_reports_nothing_has_failed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("")
    with pytest.raises(SystemExit, match="exit code 0"):
        run_child(sys.executable, str(script), {"do": "nothing"}, tmp_path)


def test_a_childs_peak_is_its_own(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import json, sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(train_speed.__file__).parent)!r})\n"
        "from _measure import child_job, peak_bytes\njob, report = child_job()\n"
        "held = bytearray(b'x' * job['bytes'])\nreport.write_text(json.dumps({'peak': peak_bytes()}))\n"
    )
    small, large = (
        run_child(sys.executable, str(script), {"do": "hold", "bytes": n}, tmp_path)["peak"] for n in (1, 64 << 20)
    )
    # This process holds torch, and more than the small child: its size must not count as the child's.
    assert small < 64 << 20 < large
