"""Runs with a problem, each with its finding; one that is stopped; the KL for each kind of reference."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.artifacts import RunDir, read_json
from palate.errors import ConfigError
from palate.models.generation.local.generate import stock_attention
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import SeparateModel
from palate.text.batch import pack
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.health import evaluation
from palate.training.health.evaluation import AnswerEvaluation, length_correlation
from palate.training.meters import held_out_rows
from runs import WORDS, config_file, distance, metrics, palate, run, run_json, values, write_rows
from tiny import VOCABULARY, save_tiny, tiny_model

CPU = torch.device("cpu")


def words(choose: random.Random, low: int, high: int) -> str:
    return " ".join(choose.choices(WORDS, k=choose.randint(low, high)))


def rows(kind: str, count: int = 48) -> list[dict[str, str]]:
    """Pairs whose chosen answer is the longer one, or one of two at random."""
    choose = random.Random(kind)
    found = []
    for number in range(count):
        answers = [f"{number} {words(choose, 1, 3)}", f"{number} {words(choose, 6, 20)}"]
        if kind == "shuffled":
            answers = [f"{number} {words(choose, 3, 6)}" for _ in range(2)]
        found.append({"prompt": f"{number} {words(choose, 1, 4)}", "chosen": answers[1], "rejected": answers[0]})
    return found


def health_of(model: Path, folder: Path, kind: str = "shuffled", **changed: Any) -> list[str]:
    """The names of a run's findings."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {
        "dataset": str(write_rows(folder / "rows.jsonl", rows(kind))),
        "val_size": 16,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "per_device_train_batch_size": 8,
        "health_max_new_tokens": 24,
        **changed,
    }
    run(model, folder / "run", **keys)
    return [finding["name"] for finding in run_json(folder / "run")["health"]]


def test_a_huge_learning_rate_degrades_the_answers(model: Path, tmp_path: Path) -> None:
    names = health_of(model, tmp_path, learning_rate=0.3, max_steps=8, num_train_epochs=9)
    assert "far_from_reference" in names
    row = metrics(tmp_path / "run", "eval")[-1]
    assert row["health/kl_per_token"] > 1.0
    assert row["health/kl"] == pytest.approx(row["health/kl_per_token"] * row["health/length"], rel=1e-6)
    assert {"health/length", "health/distinct_2", "health/loops", "health/ended", "health/entropy"} <= row.keys()


def test_labels_that_follow_length_are_seen(model: Path, tmp_path: Path) -> None:
    names = health_of(model, tmp_path, "longer", learning_rate=3e-3, max_steps=12, num_train_epochs=9)
    assert "length_bias" in names
    assert metrics(tmp_path / "run", "eval")[-1]["health/length_correlation"] > 0.7


def test_shuffled_labels_are_learnt_by_heart(model: Path, tmp_path: Path) -> None:
    names = health_of(model, tmp_path, learning_rate=3e-3, pref_beta=0.5, max_steps=40, num_train_epochs=20)
    assert "margin_without_gain" in names


def test_a_healthy_run_is_left_alone(model: Path, tmp_path: Path) -> None:
    assert health_of(model, tmp_path, learning_rate=1e-5, max_steps=8, num_train_epochs=9) == []
    baseline = read_json(tmp_path / "run" / "health.json")["vitals"]
    row = metrics(tmp_path / "run", "eval")[-1]
    assert row["health/kl"] == pytest.approx(0.0, abs=0.05)
    assert row["health/entropy"] == pytest.approx(baseline["entropy"], abs=0.05)


@pytest.mark.parametrize("cache", ["off", "auto"])
def test_health_checks_change_nothing(model: Path, tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_REFERENCES", str(tmp_path / "references"))
    common = {"max_steps": 6, "num_train_epochs": 9, "reference_cache": cache}
    health_of(model, tmp_path / "on", **common)
    health_of(model, tmp_path / "off", health="off", **common)
    assert distance(tmp_path / "on" / "run", tmp_path / "off" / "run") == 0.0
    assert not (tmp_path / "off" / "run" / "health.json").exists()
    assert "health/kl" not in metrics(tmp_path / "off" / "run", "eval")[-1]


STOPPING = {
    "learning_rate": 3e-3,
    "max_steps": 40,
    "num_train_epochs": 20,
    "health": "stop",
    "health_length_correlation": 1.0,
    "health_max_kl": 0.65,
    "load_best_model_at_end": True,
    "save_strategy": "steps",
    "save_steps": 4,
}
"""KL passes the limit at the third evaluation, while the loss on held-out pairs still falls."""


@pytest.fixture(scope="module")
def stopped(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    health_of(model, folder, "longer", **STOPPING)
    return folder / "run"


def test_a_run_stops_with_the_best_checkpoint_before_the_finding(stopped: Path) -> None:
    facts, evaluations = run_json(stopped), metrics(stopped, "eval")
    assert facts["status"] == "completed"
    assert [(found["step"], found["name"]) for found in facts["health"]] == [(12, "far_from_reference")]
    assert facts["health"][0]["remedy"]
    assert [row["step"] for row in evaluations] == [4, 8, 12], "the third evaluation has the finding"
    assert evaluations[2]["loss"] < evaluations[1]["loss"], (
        "by its loss alone the checkpoint with the finding would be the best"
    )
    assert len(metrics(stopped)) == 12
    assert distance(stopped, stopped / "checkpoint-8") == 0.0
    assert facts["final_metrics"]["eval_loss"] == evaluations[1]["loss"]


def test_a_kill_at_the_end_changes_nothing(model: Path, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    shutil.copy(stopped.parent / "rows.jsonl", tmp_path)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "run.json").write_text(json.dumps({**run_json(stopped), "status": "running", "health": []}))
    (tmp_path / "run" / "model.safetensors").unlink()
    health_of(model, tmp_path, "longer", **STOPPING, resume_from_checkpoint=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before, "not one step was added"
    assert distance(tmp_path / "run", stopped) == 0.0
    again, first = run_json(tmp_path / "run"), run_json(stopped)
    assert again["health"] == first["health"]
    assert again["final_metrics"] == pytest.approx(first["final_metrics"])


def test_a_resumed_run_is_compared_with_the_same_start(model: Path, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    for checkpoint in ("checkpoint-8", "checkpoint-12"):
        shutil.rmtree(tmp_path / "run" / checkpoint)
    health_of(model, tmp_path, "longer", **STOPPING, resume_from_checkpoint=True)
    assert run_json(tmp_path / "run")["health"] == run_json(stopped)["health"]
    assert metrics(tmp_path / "run", "eval")[-1]["health/kl"] == pytest.approx(
        metrics(stopped, "eval")[-1]["health/kl"], rel=1e-3
    )
    assert distance(tmp_path / "run", stopped) < 1e-6


def test_the_only_evaluation_is_the_best_there_is(model: Path, tmp_path: Path) -> None:
    health_of(model, tmp_path, **{**STOPPING, "learning_rate": 0.3})
    assert len(metrics(tmp_path / "run")) == 4
    assert distance(tmp_path / "run", tmp_path / "run" / "checkpoint-4") == 0.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"load_best_model_at_end": False}, "load_best_model_at_end: true"),
        ({"save_steps": 8}, "set save_steps to eval_steps"),
    ],
)
def test_stopping_needs_a_checkpoint_to_go_back_to(
    model: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        health_of(model, tmp_path, **{**STOPPING, **changed})


# ---- KL, whatever the reference is


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not the policy as it starts."""
    return save_tiny(tmp_path_factory.mktemp("other") / "llama", seed=5, initializer_range=0.2)


@pytest.mark.parametrize("kind", ["copy", "model", "adapter"])
def test_kl_of_a_stored_reference_is_that_of_a_live_one(
    model: Path, other: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_REFERENCES", str(tmp_path / "references"))
    lora = {"finetuning_type": "lora", "learning_rate": 3e-2}
    changed: dict[str, Any] = {"copy": {}, "model": {"ref_model": str(other)}, "adapter": lora}[kind]
    rows, kinds = [], []
    for cache in ("off", "auto"):
        health_of(model, tmp_path / cache, max_steps=4, reference_cache=cache, **changed)
        rows.append(metrics(tmp_path / cache / "run", "eval")[-1])
        kinds.append(run_json(tmp_path / cache / "run")["reference"]["kind"])
    assert kinds == [kind, f"stored {'start' if kind == 'copy' else kind}"]
    assert rows[0]["health/kl"] > 0.1, "the policy has moved"
    assert rows[1]["health/kl"] == pytest.approx(rows[0]["health/kl"], rel=1e-4)
    assert rows[1]["health/kl_per_token"] == pytest.approx(rows[0]["health/kl_per_token"], rel=1e-4)
    hidden = [path.name for path in (tmp_path / "auto" / "run").iterdir() if path.name.startswith(".")]
    assert hidden == [".lock"], "the reference on disk is cleared away"


def test_a_reference_model_that_changes_under_a_run_ends_the_kl_and_not_the_run(
    model: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_REFERENCES", str(tmp_path / "references"))
    moving = shutil.copytree(other, tmp_path / "reference")
    monkeypatch.setattr(evaluation, "generate", _then(lambda: save_tiny(moving, seed=6), evaluation.generate))
    health_of(model, tmp_path / "on", max_steps=4, reference_cache="auto", ref_model=str(moving))
    row, facts = metrics(tmp_path / "on" / "run", "eval")[-1], run_json(tmp_path / "on" / "run")
    assert facts["status"] == "completed"
    assert "health/kl" not in row
    assert "health/entropy" in row
    assert any("no KL from here on" in line and "has changed" in line for line in facts["notices"])


def _then(after: Callable[[], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        after()
        return found

    return both


def test_without_a_reference_no_kl_is_reported_and_that_is_said(model: Path, tmp_path: Path) -> None:
    changed = {"pref_loss": "simpo", "reference_cache": None, "max_steps": 4}
    health_of(model, tmp_path, **changed)
    row, facts = metrics(tmp_path / "run", "eval")[-1], run_json(tmp_path / "run")
    assert not [name for name in row if name.startswith("health/kl")]
    assert "health/entropy" in row
    assert any("simpo has no reference, so no KL is reported" in line for line in facts["notices"])
    assert read_json(tmp_path / "run" / "health.json")["of"] == "policy at the start"


def test_the_estimate_is_the_kl_of_the_policy_to_the_reference(tmp_path: Path) -> None:
    """Two tokens from a vocabulary of 199: the expectation can be written out, and the other direction is another."""
    # A flat policy and a reference that is sure of itself: far one way, not so far the other.
    policy, reference = scoring(0, std=0.15), scoring(1, std=1.0)
    prompt = [5, 9, 12]
    forward, backward = (exact_kl(*pair, prompt) for pair in ((policy, reference), (reference, policy)))
    answers = 1500
    evaluated = AnswerEvaluation(
        policy=policy,
        reference=SeparateModel(reference, FP32, CPU, "other", is_start=False),
        prompts=[prompt] * answers,
        stop_ids=[],
        max_new_tokens=2,
        seed=0,
        precision=FP32,
        device=CPU,
        split=lambda groups: [pack(groups)],
        report=lambda _: None,
    )
    evaluated.begin(RunDir(tmp_path), fresh=True)
    found = evaluated.measure().to_log()
    assert found["health/kl_per_token"] == pytest.approx(found["health/kl"] / 2)
    # log π/π_ref has a standard deviation of about 8 nats, so the mean of 1,500 is known to about 0.2.
    assert found["health/kl"] == pytest.approx(forward, abs=1.0)
    assert forward > backward + 5.0


def scoring(seed: int, std: float) -> Any:
    model = tiny_model(seed=seed, std=std)
    probe(model)
    return model


def exact_kl(p: Any, q: Any, prompt: list[int]) -> float:
    """Σ over all answers of two tokens of p·log(p/q), in nats, with the stock forward."""
    pairs = torch.tensor([[*prompt, first] for first in range(VOCABULARY)])
    with torch.no_grad(), stock_attention(p), stock_attention(q):
        logs = [model(input_ids=pairs).logits.double().log_softmax(-1) for model in (p, q)]
    first, second = (log[0, -2] for log in logs), [log[:, -1] for log in logs]
    p1, q1 = first
    later = (second[0].exp() * (second[0] - second[1])).sum(-1)
    return float((p1.exp() * (p1 - q1 + later)).sum())


# ---- margins that follow length


def pair(chosen: int, rejected: int) -> EncodedGroup:
    completions = tuple(EncodedCompletion(np.zeros(n, np.int32), np.ones(n, bool)) for n in (chosen, rejected))
    return EncodedGroup("p", np.zeros(1, np.int32), completions)


def correlation(groups: list[EncodedGroup], margins: torch.Tensor, weights: torch.Tensor | None = None) -> float | None:
    given = torch.ones(len(groups)) if weights is None else weights
    return length_correlation(held_out_rows(groups, {"rewards/margins": margins}, given))


def test_it_is_pearsons_correlation_of_the_rows_that_count() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 30, size=(20, 2))
    margins = torch.from_numpy(random.normal(size=20) + 0.1 * (lengths[:, 0] - lengths[:, 1]))
    groups = [*(pair(*map(int, row)) for row in lengths), pair(30, 1)]
    weights = torch.tensor([1.0] * 20 + [0.0])
    expected = np.corrcoef(margins.numpy(), lengths[:, 0] - lengths[:, 1])[0, 1]
    assert correlation(groups, torch.cat([margins, torch.tensor([-99.0])]), weights) == pytest.approx(expected)


def test_few_pairs_or_no_spread_have_no_correlation() -> None:
    assert correlation([pair(n + 1, 1) for n in range(15)], torch.arange(15.0)) is None
    assert correlation([pair(n + 1, 1) for n in range(20)], torch.zeros(20)) is None


# ---- other stages, and several processes


def test_answers_of_an_online_stage_are_checked_too(model: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text("def short(prompts, completions):\n    return [-len(t) for t in completions]\n")
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(12)])
    given = {
        **{"stage": "grpo", "dataset": str(prompts), "rewards": f"{tmp_path}/scores.py:short"},
        **{"reference_cache": None, "num_generations": 2, "max_new_tokens": 6, "cutoff_len": 64},
        **{"val_size": 4, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 2, "health_max_new_tokens": 8},
    }
    run(model, tmp_path / "run", **given)
    row = metrics(tmp_path / "run", "eval")[-1]
    assert row["health/kl"] == pytest.approx(row["health/kl_per_token"] * row["health/length"], rel=1e-6)
    assert "health/length_correlation" not in row, "nothing is held out in pairs"


@pytest.mark.slow
def test_two_processes_stop_together(model: Path, tmp_path: Path) -> None:
    changed = {**STOPPING, "health_max_kl": 1e-4, "val_size": 4, "eval_strategy": "steps", "eval_steps": 4}
    path = config_file(tmp_path / "run.json", values(model, tmp_path / "run", rows=24, **changed))
    done = palate("train", path, processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(one["step"], one["name"]) for one in run_json(tmp_path / "run")["health"]] == [(4, "far_from_reference")]
    assert len(metrics(tmp_path / "run")) == 4
    assert distance(tmp_path / "run", tmp_path / "run" / "checkpoint-4") == 0.0
