"""Models divided among two and four processes, which hold their parts only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from runs import command
from tiny import tiny_model

SCRIPT = Path(__file__).parent / "divided.py"
TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A model of 170 MB, then tiny ones: with a tied head, with transposed linear layers and a table of positions."""
    root = tmp_path_factory.mktemp("divided")
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8}
    with torch.device("meta"):
        large = LlamaForCausalLM(LlamaConfig(vocab_size=1000, num_hidden_layers=20, **shape))
    large = large.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in large.parameters():
        parameter.data.fill_(0.01)
    large.save_pretrained(root / "large")
    for kind in ("llama", "gpt2", "qwen2"):
        tiny_model(kind).to(torch.bfloat16).save_pretrained(root / kind)
    return [str(root / name) for name in ("large", "llama", "gpt2", "qwen2")]


@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_parts_are_those_of_the_whole_model_and_no_process_holds_it(folders: list[str], processes: int) -> None:
    how = {**command(), "args": [sys.executable, str(SCRIPT), *folders]}
    how["env"] |= {
        "PROCESSES": str(processes),
        "PYTHONPATH": ":".join([str(TESTS / "invariants"), str(TESTS), how["env"].get("PYTHONPATH", "")]),
    }
    done = subprocess.run(**how, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
