"""Answers from an OpenAI-compatible engine, for ppo and grpo: asked, told of the weights, and learned from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engines import BAD, GOOD, Server, serving
from palate.errors import ConfigError, EngineError
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.precision import FP32
from palate.records import Demonstration, Message
from palate.text.encode import encode_record
from palate.text.groups import EncodedGroup
from palate.text.template import load_template
from palate.training.online.policy_engine import policy_engine
from palate.training.run import train
from runs import config, distance, logged, metrics, run, weights, write_rows
from tiny import tiny_tokenizer

CPU = torch.device("cpu")
SCORES = "def share_of_e(prompts, completions):\n    return [10 * c.count('e') / max(1, len(c)) for c in completions]\n"
SYNC = """
import json
import time
from pathlib import Path

def tell(folder, name):
    found = sorted(path.name for path in Path(folder).iterdir())
    with open({log!r}, "a") as file:
        file.write(json.dumps([name, found, (Path(folder) / "model.safetensors").stat().st_mtime_ns]) + "\\n")
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def online(folder: Path, server: Server, **changed: Any) -> dict[str, Any]:
    prompts = write_rows(folder / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(4)])
    (folder / "scores.py").write_text(SCORES)
    (folder / "sync.py").write_text(SYNC.format(log=str(folder / "synced.jsonl")))
    return {
        "stage": "grpo",
        "dataset": str(prompts),
        "rewards": f"{folder}/scores.py:share_of_e",
        "max_new_tokens": 24,
        "cutoff_len": 128,
        "num_generations": 4,
        "reference_cache": None,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 100,
        "max_steps": 5,
        "rollout_url": server.url,
        "rollout_model": "policy",
        "rollout_sync": f"{folder}/sync.py:tell",
        **changed,
    }


def advantage(folder: Path) -> float:
    """log π of the good answer less that of the bad one, by a model folder."""
    subject = Subject(ModelSpec("m", str(folder)), FP32, CPU)
    asked = (Message("user", "1 what is it"),)
    groups = [
        encode_record(Demonstration(id="x", prompt=asked, completion=(Message("assistant", text),)), subject.template)
        for text in (GOOD, BAD)
    ]
    assert all(isinstance(group, EncodedGroup) for group in groups)
    (good, _), (bad, _) = subject.score(groups)  # type: ignore[arg-type]
    return good[0] - bad[0]


def test_the_policy_learns_from_an_engines_answers(model: Path, tmp_path: Path, server: Server) -> None:
    keys = online(tmp_path, server, temperature=0.7, top_p=0.9)
    run(model, tmp_path / "run", **keys)
    assert len(server.chats) == 5 * 4 * 4
    asked = {json.dumps(chat["messages"]) for chat in server.chats}
    assert asked == {json.dumps([{"role": "user", "content": f"{i} what is it"}]) for i in range(4)}
    first = server.chats[0]
    assert (first["model"], first["max_tokens"], first["temperature"], first["top_p"]) == ("policy", 24, 0.7, 0.9)
    assert len({chat["seed"] for chat in server.chats}) == len(server.chats), "each answer is sampled by its own seed"
    rows = metrics(tmp_path / "run")
    assert all(row["ended"] == 1.0 and 0 < row["reward"] < 10 for row in rows)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert advantage(tmp_path / "run") > advantage(model) + 1.0


def test_the_engine_gets_the_weights_before_each_batch_of_answers(model: Path, tmp_path: Path, server: Server) -> None:
    run(model, tmp_path / "run", **online(tmp_path, server, num_iterations=2, max_steps=4))
    synced = [json.loads(line) for line in (tmp_path / "synced.jsonl").read_text().splitlines()]
    assert [name for name, _, _ in synced] == ["policy", "policy"], "two steps are made on each batch"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(synced[0][1])
    assert synced[0][2] != synced[1][2]
    assert not (tmp_path / "run" / ".rollout-policy").exists()


def test_an_adapter_replaces_the_one_before(model: Path, tmp_path: Path, server: Server) -> None:
    server.adapters["policy"] = "of a run that was killed"
    keys = online(tmp_path, server, rollout_sync="lora", finetuning_type="lora", lora_rank=2, max_steps=2)
    run(model, tmp_path / "run", **keys)
    told = [call for call in server.calls if call != "completions"]
    assert told == ["load_lora_adapter", "unload_lora_adapter", "load_lora_adapter"] * 2
    assert server.adapters["policy"].endswith("/run/.rollout-policy")


def test_resumed_equals_uninterrupted(model: Path, tmp_path: Path, server: Server) -> None:
    keys = online(tmp_path, server, rollout_sync="none", save_strategy="steps", save_steps=2, max_steps=4)
    run(model, tmp_path / "whole", **keys)
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "checkpoint-2").rename(tmp_path / "again" / "checkpoint-2")
    run(model, tmp_path / "again", **keys, resume_from_checkpoint=True)
    assert distance(tmp_path / "whole", tmp_path / "again") == 0.0
    assert logged(tmp_path / "whole")[2:] == logged(tmp_path / "again")


def test_a_cut_answer_has_not_ended(model: Path, tmp_path: Path, server: Server) -> None:
    server.reason = "length"
    run(model, tmp_path / "run", **online(tmp_path, server, max_steps=1, max_new_tokens=5, rollout_sync="none"))
    [row] = metrics(tmp_path / "run")
    assert (row["ended"], row["length"]) == (0.0, 5.0)


def test_an_engine_that_is_away_ends_the_run_in_one_line(
    model: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    keys = online(tmp_path, server, rollout_url="http://127.0.0.1:9/v1", rollout_sync="none")
    with pytest.raises(EngineError, match=r"^http://127\.0\.0\.1:9/v1/chat/completions: cannot be reached .*7 times"):
        train(config(model, tmp_path / "run", **keys))
    assert not weights(tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rollout_url": None}, "rollout_model has no effect without rollout_url"),
        ({"rollout_sync": None}, "rollout_url needs rollout_sync"),
        ({"rollout_model": None}, "rollout_url needs rollout_model"),
        ({"rollout_url": "localhost:8000"}, "must begin with http"),
        ({"rollout_sync": "lora"}, "set finetuning_type: lora"),
        ({"rollout_sync": "push"}, "is not lora, none, module:function"),
        ({"rollout_sync": "nowhere.py:f"}, "there is no file nowhere.py"),
    ],
)
def test_what_cannot_work_is_said(
    model: Path, tmp_path: Path, server: Server, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(config(model, tmp_path / "run", **online(tmp_path, server, **changed)))
    assert server.calls == []


def test_an_engine_that_gets_adapters_only_needs_the_merged_ones_in_its_model(model: Path, tmp_path: Path) -> None:
    given = online(tmp_path, SimpleNamespace(url="http://localhost:1/v1"), rollout_sync="lora", finetuning_type="lora")
    made = config(model, tmp_path / "run", **given, adapter_name_or_path="a,b", sample_prompts=None)
    with pytest.raises(ConfigError, match="rollout_sync: lora gives the engine the new adapter only, but a is merged"):
        policy_engine(made, tmp_path, load_template(tiny_tokenizer()))  # type: ignore[arg-type]
