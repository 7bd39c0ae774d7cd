"""Online runs on a tiny policy: a rule reward rises, a killed run ends where an unbroken one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from palate.cli.main import main
from palate.errors import ConfigError
from palate.feedback.judges.load import judge_reward
from palate.training.run import train
from runs import config, config_file, distance, metrics, run, run_json, values, write_rows

SCORES = "def share_of_e(prompts, completions):\n    return [10 * c.count('e') / max(1, len(c)) for c in completions]\n"


def online(folder: Path, stage: str, **changed: Any) -> dict[str, Any]:
    """Keys of a short online run on eight prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = write_rows(folder / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(8)])
    (folder / "scores.py").write_text(SCORES)
    return {
        "stage": stage,
        "dataset": str(prompts),
        "rewards": f"{folder}/scores.py:share_of_e",
        "max_new_tokens": 8,
        "cutoff_len": 128,
        "reference_cache": None,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 100,
        **changed,
    }


@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("grpo", {"max_steps": 14}),
        ("grpo", {"max_steps": 14, "advantage_estimator": "rloo", "kl_coef": 0.0}),
        ("ppo", {"max_steps": 60, "num_generations": 8, "kl_coef": 0.01}),
    ],
)
def test_a_rule_reward_rises_and_the_kl_is_reported(
    model: Path, tmp_path: Path, stage: str, changed: dict[str, Any]
) -> None:
    run(model, tmp_path / "run", **online(tmp_path, stage, learning_rate=5e-3, **changed))
    rows = metrics(tmp_path / "run")
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4), "the policy starts as the reference"
    first, last = (sum(row["reward"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last > 2 * first + 0.3
    assert rows[-1]["kl"] > 1.0
    assert {"entropy", "length", "ended", "clip_fraction"} <= rows[-1].keys()


@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("ppo", {"ppo_epochs": 3, "ppo_target": 1.0, "ppo_score_norm": True, "num_generations": 2}),
        ("grpo", {"num_iterations": 2, "num_generations": 4}),
    ],
)
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_resumed_equals_uninterrupted_within_a_batch_of_answers(
    model: Path, tmp_path: Path, stage: str, changed: dict[str, Any], tuning: str
) -> None:
    keys = online(tmp_path, stage, max_steps=7, save_strategy="steps", save_steps=4, finetuning_type=tuning, **changed)
    whole = tmp_path / "whole"
    run(model, whole, **keys)
    # Step 4 is in the midst of the steps on one batch of answers; go on from there, weights of step 7 gone.
    (again := tmp_path / "again").mkdir()
    (whole / "checkpoint-4").rename(again / "checkpoint-4")
    run(model, again, **keys, resume_from_checkpoint=True)
    assert distance(whole, again) == 0.0
    assert metrics(whole)[-1]["reward"] == metrics(again)[-1]["reward"]


def test_the_saved_model_has_no_value_head(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", **online(tmp_path, "ppo", max_steps=1))
    _, report = AutoModelForCausalLM.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    assert run_json(tmp_path / "run")["objective"] == "ppo"


def test_the_split_of_a_step_changes_nothing(model: Path, tmp_path: Path) -> None:
    keys = online(tmp_path, "ppo", max_steps=4, num_generations=2, ppo_epochs=2)
    run(model, tmp_path / "one", **keys)
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_tokens_per_batch": 64}
    run(model, tmp_path / "many", **{**keys, **split})
    # Adam enlarges the rounding of small gradients, up to 1.3e-5 by processor; a gradient 4 times too small gives 0.018
    assert distance(tmp_path / "one", tmp_path / "many") < 5e-5


def test_the_command_line_sums_up_reward_and_kl(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And an online run has no pairs to be measured on by itself."""
    given = values(model, tmp_path / "run", **online(tmp_path, "grpo", max_steps=1, num_generations=2))
    assert main(["train", str(config_file(tmp_path / "run.yaml", given))]) == 0
    said = capfd.readouterr().out
    row = metrics(tmp_path / "run")[-1]
    assert f"last step reward              {row['reward']:.4f}" in said
    assert f"last step kl                  {row['kl']:.4f}" in said
    assert main(["eval", "accuracy", str(tmp_path / "run")]) == 2
    assert "answered prompts and held out no pairs; name pairs with --dataset" in capfd.readouterr().err


def test_held_out_prompts_are_answered_with_the_same_numbers_each_time(model: Path, tmp_path: Path) -> None:
    keys = online(tmp_path, "grpo", max_steps=2, learning_rate=1e-12, val_size=3, eval_strategy="steps", eval_steps=1)
    run(model, tmp_path / "run", **keys)
    first, second = metrics(tmp_path / "run", "eval")
    assert first["reward"] == pytest.approx(second["reward"], abs=1e-6)
    assert first["length"] == second["length"]


def test_a_judge_is_a_reward_where_one_is_lent(model: Path, tmp_path: Path) -> None:
    keys = online(tmp_path, "grpo", max_steps=1, rewards=[{"judge": "length:longer", "weight": 2.0}])
    with pytest.raises(ConfigError, match="pass judges="):
        run(model, tmp_path / "none", **keys)
    train(config(model, tmp_path / "run", **keys), judges=judge_reward)
    row = metrics(tmp_path / "run")[0]
    # The shares of wins within a group have the mean ½.
    assert row["rewards/length:longer"] == pytest.approx(0.5)
    assert row["reward"] == pytest.approx(1.0)


def test_a_reward_model_and_a_rule_are_weighed_and_each_is_logged(model: Path, tmp_path: Path) -> None:
    """The reward model is the folder that stage rm left; held-out answers get the same rewards as trained ones do."""
    judge = tmp_path / "rm"
    run(model, judge, stage="rm", learning_rate=1e-2, num_train_epochs=4, per_device_train_batch_size=8)
    terms = [{"reward": str(judge), "weight": 0.5}, {"reward": "length:longer", "weight": -0.1}]
    keys = online(tmp_path / "data", "grpo", max_steps=2, rewards=terms, num_generations=4, val_size=2)
    run(model, tmp_path / "run", **keys)
    rows = [*metrics(tmp_path / "run"), *metrics(tmp_path / "run", "eval")]
    assert len(rows) == 3
    for row in rows:
        learned, length = row[f"rewards/{judge}"], row["rewards/length:longer"]
        assert learned != 0
        assert row["reward"] == pytest.approx(0.5 * learned - 0.1 * length, rel=1e-4)
        assert "kl" in row


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rewards": "no/such/folder"}, "is not a rule, a function or a folder"),
        ({"rewards": ["length:longer", "length:longer"]}, "twice"),
        ({"rewards": [{"weight": 2}]}, "either a reward or a judge"),
        ({"max_new_tokens": 128}, "no room for a prompt"),
        ({"advantage_estimator": "rloo", "scale_rewards": "none"}, "rloo does not scale rewards"),
    ],
)
def test_what_cannot_work_is_said(model: Path, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(model, tmp_path / "run", **online(tmp_path, "grpo", max_steps=1, **changed))
    assert not (tmp_path / "run").exists()
