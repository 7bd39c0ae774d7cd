"""A LoRA run of the real small model, exported: plain transformers and llama.cpp prefer what the run prefers.

`PALATE_LLAMA_CPP` names a llama.cpp checkout (the sdist of llama-cpp-python has one in vendor/llama.cpp), and
`PALATE_LLAMA_PYTHON` an interpreter with llama-cpp-python; without them the GGUF test is skipped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llama_server import PYTHON
from palate.cli.main import main
from palate.evaluation.accuracy.held_out import held_out_pairs
from palate.evaluation.subject import read_run
from palate.models.loading.builtin import SMOLLM2

pytestmark = pytest.mark.slow

SCORE = """
import json, sys
import numpy as np
from llama_cpp import Llama
asked = json.load(open(sys.argv[2]))
llm = Llama(sys.argv[1], n_ctx=2048, n_batch=512, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
found = []
for text, ids, start in asked:
    same = llm.tokenize(text.encode(), add_bos=False, special=True) == ids
    llm.reset()
    llm.eval(ids)
    logits = np.array(llm.scores[: len(ids) - 1], dtype=np.float64)
    logits -= logits.max(1, keepdims=True)
    logps = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found.append([same, float(logps[np.arange(start - 1, len(ids) - 1), ids[start:]].mean())])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    config = {
        "stage": "dpo", "model_name_or_path": SMOLLM2, "dataset": "palate-demo", "max_samples": 60, "val_size": 0.4,
        "finetuning_type": "lora", "lora_rank": 8, "learning_rate": 5e-4, "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 4, "max_steps": 8, "cutoff_len": 512, "save_strategy": "no", "report_to": "none",
        "sample_prompts": 0, "output_dir": str(folder / "run"),
    }  # fmt: skip
    (folder / "run.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert main(["train", str(folder / "run.yaml")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def merged(run: Path) -> tuple[Path, Any]:
    """The exported folder, and how its held-out pairs were scored."""
    folder, said = run.with_name("merged"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["model", "export", str(run), "--merged", "--output", str(folder), "--json"]) == 0
    return folder, json.loads(said.getvalue())["check"]


def answers(run: Path, folder: Path) -> list[tuple[str, list[int], int]]:
    """Text, tokens and first token of the answers of both sides of each held-out pair, by the exported tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for pair in held_out_pairs(read_run(run)):
        turns = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        for side in (pair.chosen, pair.rejected):
            text = f"{prompt}{side[-1].content}<|im_end|>"
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found.append((text, ids, len(tokenizer(prompt, add_special_tokens=False)["input_ids"])))
    return found


def preferred(scores: list[float]) -> float:
    """Share of the pairs whose chosen answer has the higher log-probability per token."""
    return sum(a > b for a, b in zip(scores[::2], scores[1::2], strict=True)) / (len(scores) // 2)


def test_plain_transformers_prefers_the_same_answers(run: Path, merged: tuple[Path, Any]) -> None:
    folder, check = merged
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    with torch.no_grad():
        for _, ids, start in answers(run, folder):
            logps = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            scores.append(float(logps[range(start - 1, len(ids) - 1), ids[start:]].mean()))
    assert len(scores) == 2 * check["pairs"] == 48
    assert preferred(scores) == pytest.approx(check["accuracy_after"])
    assert preferred(scores) == pytest.approx(check["accuracy_before"], abs=1 / 24 + 1e-9)


def test_llama_cpp_prefers_the_same_answers(run: Path, merged: tuple[Path, Any], tmp_path: Path) -> None:
    checkout = os.environ.get("PALATE_LLAMA_CPP")
    if checkout is None:
        pytest.skip("name a llama.cpp checkout with convert_hf_to_gguf.py: PALATE_LLAMA_CPP")
    if subprocess.run([PYTHON, "-c", "import llama_cpp"], capture_output=True, check=False).returncode:
        pytest.skip("llama-cpp-python is not installed; name an interpreter that has it: PALATE_LLAMA_PYTHON")
    if subprocess.run([sys.executable, "-c", "import sentencepiece"], capture_output=True, check=False).returncode:
        pytest.skip("the converter of llama.cpp needs sentencepiece, which is not installed")
    folder, check = merged
    words = ["--gguf", checkout, "--dtype", "fp16", "--no-check", "--output", str(tmp_path / "model.gguf")]
    assert main(["model", "export", str(run), *words]) == 0
    (tmp_path / "asked.json").write_text(json.dumps(answers(run, folder)), encoding="utf-8")
    command = [PYTHON, "-c", SCORE, str(tmp_path / "model.gguf"), str(tmp_path / "asked.json")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said)
    assert all(same for same, _ in found), "llama.cpp makes the same tokens of the texts"
    accuracy = preferred([score for _, score in found])
    print(f"held-out accuracy: merged {check['accuracy_after']:.1%}, GGUF in llama.cpp {accuracy:.1%}")
    assert accuracy == pytest.approx(check["accuracy_after"], abs=2 / 24 + 1e-9)
