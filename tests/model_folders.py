"""Model folders and runs that the registry can keep, written at once: a few numbers as weights, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from palate.artifacts import write_json


def fake_model(folder: Path, value: float = 0.0) -> Path:
    """A model folder whose weights are `value`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.full(4, value, dtype=np.float32)}, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    write_json(folder / "tokenizer.json", {"version": "1.0"})
    write_json(folder / "generation_config.json", {"eos_token_id": 2})
    return folder


def fake_adapter(folder: Path, base: Path | str, value: float = 0.0) -> Path:
    """An adapter folder on a base."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"lora_A": np.full(4, value, dtype=np.float32)}, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": str(base), "peft_type": "LORA"})
    return folder


def as_run(folder: Path, base: Path | str, *, votes: tuple[str, ...] = (), **facts: Any) -> Path:
    """Make a model or adapter folder the directory of a completed run that started from `base`."""
    config = {"stage": "dpo", "model_name_or_path": str(base), "adapter_name_or_path": None}
    run = {"status": "completed", "stage": "dpo", "objective": "sigmoid", "config": config, "data": {"identity": "d1"}}
    write_json(folder / "run.json", {**run, **facts})
    data: dict[str, Any] = {"lineage": [{"name": "pairs", "path": "pairs.jsonl", "files": {"pairs.jsonl": "a" * 64}}]}
    write_json(folder / "data.json", data | ({"votes": {"rows": 2, "ids": list(votes)}} if votes else {}))
    return folder
