"""Whole runs on a tiny model and a few pairs: seconds each, and what they leave behind.

Without torch it can be imported too: tests of `config` and `data` use its rows and config files.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.artifacts import read_jsonl
from palate.config.load import config_from_values
from palate.config.run import RunConfig

if TYPE_CHECKING:
    import torch

    from palate.training.run import RunResult

WORDS = re.findall(r"\w+", "the answer is that it was not a question of what they said and this is why we go on")
BASE: dict[str, Any] = {
    "stage": "dpo",
    "learning_rate": 5e-3,
    "lr_scheduler_type": "constant",
    "precision": "fp32",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "sample_prompts": 0,
    "reference_cache": "off",
    "torch_threads": 1,
}


def pairs(rows: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Distinct pairs of different lengths."""
    choose = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(choose.choices(WORDS, k=choose.randint(low, high)))

    return [
        {"prompt": f"{i} {text(1, 6)}", "chosen": f"yes {text(1, 8)}", "rejected": f"no {text(1, 8)}"}
        for i in range(rows)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def values(model: Path, folder: Path, *, rows: int = 8, **changed: Any) -> dict[str, Any]:
    """A config as a mapping: `rows` pairs beside the run directory `folder`, `changed` over the defaults."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    data = folder.parent / f"pairs{rows}.jsonl"
    if not data.exists():
        write_rows(data, pairs(rows))
    named = {"model_name_or_path": str(model), "dataset": str(data), "output_dir": str(folder)}
    if changed.get("stage") in ("sft", "rm"):
        changed = {"sample_prompts": None, "reference_cache": None, **changed}
    return {key: value for key, value in {**BASE, **named, **changed}.items() if value is not None}


def config(model: Path, folder: Path, **changed: Any) -> RunConfig:
    return config_from_values(values(model, folder, **changed)).config


def run(model: Path, folder: Path, **changed: Any) -> RunResult:
    """Train in this process."""
    from palate.training.run import train

    return train(config(model, folder, **changed))


def config_file(path: Path, given: dict[str, Any]) -> Path:
    path.write_text(json.dumps(given), encoding="utf-8")  # JSON is YAML
    return path


def command(*arguments: str | Path, processes: int = 1) -> dict[str, Any]:
    """What `subprocess` needs for `palate …` as one process, or as several under torchrun, with one thread each."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return {
        "args": [sys.executable, *launch, "-m", "palate", *map(str, arguments)],
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    }


def palate(*arguments: str | Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """`palate …` to its end."""
    return subprocess.run(**command(*arguments, processes=processes), timeout=300, check=False)


def train_several(configs: Sequence[Path], processes: int = 2, script: str = "several") -> None:
    """Train each config in the same processes, which start once."""
    how = command()
    how["args"] = [sys.executable, str(Path(__file__).parent / "invariants" / f"{script}.py"), *map(str, configs)]
    how["env"]["PROCESSES"] = str(processes)
    done = subprocess.run(**how, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "terminate called" not in done.stderr  # the C++ runtime's last words


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model or adapter folder."""
    from safetensors.torch import load_file

    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def distance(a: Path, b: Path) -> float:
    """The largest difference between the weights of two folders, which must hold the same names."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def metrics(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of one split."""
    return [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] == split]


def logged(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The same without what the clock says."""
    clocks = ("runtime", "samples_per_second", "steps_per_second")
    return [{name: row[name] for name in row if name not in clocks} for row in metrics(folder, split)]


def run_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found
