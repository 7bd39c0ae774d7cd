"""Pipelines as configs: every run resolved before the first one starts, each from the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from palate.config.load import load_config
from palate.config.pipeline import Pipeline, is_pipeline, load_pipeline
from palate.config.run import DpoConfig
from palate.errors import ConfigError

ONLINE = {"stage": "dpo", "rounds": 2, "dataset": None, "prompts": "p", "judge": "length:longer"}
COMMON = {"model_name_or_path": "base", "output_dir": "runs/p", "dataset": "d.jsonl"}


def load(folder: Path, given: dict[str, Any], *overrides: str) -> Pipeline:
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump({**COMMON, **given}, sort_keys=False))
    assert is_pipeline(path)
    return load_pipeline(path, overrides)


def starts(pipeline: Pipeline) -> list[tuple[str, str | list[str] | None]]:
    return [(run.config.model_name_or_path, run.config.adapter_name_or_path) for run in pipeline.runs]


def test_stages_start_from_what_the_one_before_leaves(tmp_path: Path) -> None:
    stages = [{"stage": "sft"}, {"stage": "rm"}, {"stage": "dpo", "pref_beta": 0.3}, {"stage": "ppo", "rewards": "r"}]
    pipeline = load(tmp_path, {"stages": stages, "seed": 7})
    assert [run.name for run in pipeline.runs] == ["1-sft", "2-rm", "3-dpo", "4-ppo"]
    # The reward model starts from the policy, and the policy goes on past it.
    assert starts(pipeline) == [("base", None), ("runs/p/1-sft", None), ("runs/p/1-sft", None), ("runs/p/3-dpo", None)]
    assert {run.config.seed for run in pipeline.runs} == {7}


def test_adapters_go_on_and_are_merged_where_all_weights_train(tmp_path: Path) -> None:
    stages = [{"stage": "sft"}, {"stage": "dpo"}, {"stage": "dpo", "finetuning_type": "full"}, {"stage": "dpo"}]
    pipeline = load(tmp_path, {"stages": stages, "finetuning_type": "lora"})
    assert starts(pipeline) == [
        ("base", None),
        ("base", "runs/p/1-sft"),
        ("base", "runs/p/2-dpo"),
        ("runs/p/3-dpo", None),
    ]


def test_what_a_stage_merged_is_named_before_its_adapter(tmp_path: Path) -> None:
    stages = [{"stage": "sft"}, {"stage": "dpo"}, {"stage": "dpo", "finetuning_type": "full"}]
    given = {"stages": stages, "finetuning_type": "lora", "adapter_name_or_path": "a, b"}
    assert starts(load(tmp_path, given)) == [
        ("base", "a, b"),
        ("base", ["a", "runs/p/1-sft"]),
        ("base", ["a", "runs/p/2-dpo"]),
    ]
    assert starts(load(tmp_path, {**given, "create_new_adapter": True})) == [
        ("base", "a, b"),
        ("base", ["a", "b", "runs/p/1-sft"]),
        ("base", ["a", "b", "runs/p/1-sft", "runs/p/2-dpo"]),
    ]


def test_rounds_and_their_references(tmp_path: Path) -> None:
    given = {"stage": "dpo", "rounds": [{}, {"dataset": "e.jsonl", "learning_rate": 1e-6}]}
    for reference, expected in (("previous", None), ("first", "base")):
        pipeline = load(tmp_path, {**given, "reference": reference})
        configs = [run.config for run in pipeline.runs]
        assert all(isinstance(config, DpoConfig) for config in configs)
        assert [getattr(config, "ref_model", "") for config in configs] == [None, expected]
        assert [config.dataset for config in configs] == ["d.jsonl", "e.jsonl"]
        assert starts(pipeline)[1] == ("runs/p/round-1", None)


def test_online_rounds_make_their_own_pairs(tmp_path: Path) -> None:
    sampling = {"prompts": "p.jsonl", "judge": "length", "candidates": 3}
    pipeline = load(tmp_path, {"stage": "dpo", "rounds": 2, "dataset": None, **sampling})
    assert [str(run.config.dataset) for run in pipeline.runs] == [
        "runs/p/round-1-data/pairs.jsonl",
        "runs/p/round-2-data/pairs.jsonl",
    ]
    assert [run.sampling and run.sampling.candidates for run in pipeline.runs] == [3, 3]


def test_overrides_hold_for_the_whole_file(tmp_path: Path) -> None:
    pipeline = load(tmp_path, {"stages": [{"stage": "sft"}]}, "output_dir=elsewhere", "drift_samples=3")
    assert pipeline.runs[0].config.output_dir == "elsewhere/1-sft"
    assert pipeline.drift.drift_samples == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stages": [{"stage": "sft"}], "rounds": 2}, "cannot both be given"),
        ({"stages": []}, "stages must be a list of mappings, not []"),
        ({"rounds": 0}, "rounds must be a number or a list of mappings, not 0"),
        ({"stages": [{"learning_rate": 1}]}, "p.yaml:4 (number 1): names no stage"),
        ({"stages": [{"stage": "sft"}], "pref_beta": 0.1}, "no stage of this pipeline has the key pref_beta"),
        ({"stages": [{"stage": "sft", "pref_bta": 0.1}]}, "p.yaml:4 (number 1): unknown key pref_bta"),
        ({"stages": [{"stage": "sft"}], "reference": "first"}, "reference belongs to rounds"),
        ({"stage": "dpo", "rounds": 2, "reference": "second"}, "reference must be"),
        ({"stage": "dpo", "rounds": 2, "prompts": "p"}, "either a dataset or prompts"),
        (
            {"stage": "dpo", "rounds": 2, "overwrite_output_dir": "nein"},
            "overwrite_output_dir: nein must be true or false",
        ),
        ({**ONLINE, "candidate_url": "http://e/v1"}, "candidate_url needs candidate_model as well"),
        ({**ONLINE, "candidate_sync": "none"}, "candidate_sync has no effect without candidate_url"),
        (
            {**ONLINE, "candidate_url": "e/v1", "candidate_model": "m", "candidate_sync": "none"},
            "candidate_url: e/v1 must begin with http",
        ),
        (
            {**ONLINE, "candidate_url": "http://e/v1", "candidate_model": "m", "candidate_sync": "push"},
            "candidate_sync: push is not none, module:function",
        ),
        (
            {"stage": "dpo", "rounds": 2, "reference": "first", "adapter_name_or_path": "a", "finetuning_type": "lora"},
            "starts from an adapter",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_wrong_key_of_every_run_is_in_one_message(tmp_path: Path) -> None:
    stages = [{"stage": "sft", "seed": -1}, {"stage": "dpo", "pref_bta": 1, "learning_rate": 0}, {"lr": 1}]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"use_badam": True, "stages": stages, "pref_beta": 0.1, "gamma": 1})
    assert [line.partition(": ")[2].partition(";")[0].partition(",")[0] for line in caught.value.lines] == [
        "use_badam: true is not available",
        "seed must be at least 0",
        "unknown key pref_bta",
        "learning_rate must be above 0",
        "names no stage",
        "no stage of this pipeline has the key gamma",
    ]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"stage": "dpo", "rounds": [{"seed": -1}, {"sed": 1}], "model_name_or_path": None})
    assert len(caught.value.lines) == 3


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("rounds=3", ["round-1", "round-2", "round-3"]),
        ("rounds=[{seed: 1}, {seed: 2}]", ["round-1", "round-2"]),
        ("stages=[{stage: sft}, {stage: dpo}]", ["1-sft", "2-dpo"]),
    ],
)
def test_an_override_makes_a_pipeline(tmp_path: Path, override: str, names: list[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**COMMON, "stage": "dpo"}))
    assert not is_pipeline(path)
    assert is_pipeline(path, [override])
    assert [run.name for run in load_pipeline(path, [override]).runs] == names


def test_an_override_reaches_into_a_stage(tmp_path: Path) -> None:
    stages = [{"stage": "sft"}, {"stage": "dpo", "pref_beta": 0.3}]
    pipeline = load(
        tmp_path,
        {"stages": stages},
        "stages.1.pref_beta=0.2",
        "stages.0.lr_scheduler_kwargs.num_cycles=2",
        "stages.0.lr_scheduler_type=cosine",
    )
    assert getattr(pipeline.runs[1].config, "pref_beta", None) == 0.2
    assert pipeline.runs[0].config.lr_scheduler_kwargs == {"num_cycles": 2}
    with pytest.raises(ConfigError, match=r"--set stages.2.seed: 2 is not a position in a list of 2"):
        load(tmp_path, {"stages": stages}, "stages.2.seed=1")


def test_a_command_for_one_stage_says_who_runs_pipelines(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**COMMON, "stages": [{"stage": "sft"}]}))
    with pytest.raises(ConfigError, match="which `palate train` runs"):
        load_config(path)
