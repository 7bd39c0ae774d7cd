"""Paths in configs are what a shell would make of them, once, for every key that is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.config.load import config_from_values, load_config
from palate.config.pipeline import load_pipeline
from palate.config.sweep import load_sweep
from palate.config.values import expand, expand_named, expand_names
from palate.errors import ConfigError
from runs import config_file

BASE: dict[str, Any] = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    monkeypatch.setenv("DATA", "/mnt/data")
    monkeypatch.delenv("NOT_SET", raising=False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("~/runs/x", "/users/me/runs/x"),
        ("~", "/users/me"),
        ("$DATA/x", "/mnt/data/x"),
        ("${DATA}x", "/mnt/datax"),
        ("~/$DATA", "/users/me//mnt/data"),
        ("runs/x", "runs/x"),
        ("./runs/~x", "./runs/~x"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("costs $5", "costs $5"),
    ],
)
def test_what_a_path_stands_for(written: str, read: str) -> None:
    assert expand(written) == read


@pytest.mark.parametrize("path", ["$NOT_SET/x", "${NOT_SET}", "~nobody-of-that-name/x"])
def test_what_stands_for_nothing_is_refused_with_its_line(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file(tmp_path / "run.yaml", {**BASE, "output_dir": path}))
    assert str(caught.value).startswith(f"{tmp_path}/run.yaml:1: output_dir: {path}: ")


@pytest.mark.parametrize(
    ("stage", "key", "written", "read"),
    [
        ("dpo", "output_dir", "~/runs/x", "/users/me/runs/x"),
        ("dpo", "model_name_or_path", "~/models/a", "/users/me/models/a"),
        ("dpo", "adapter_name_or_path", "$DATA/a", "/mnt/data/a"),
        ("dpo", "adapter_name_or_path", "~/a, $DATA/b", "/users/me/a, /mnt/data/b"),
        ("dpo", "adapter_name_or_path", ["~/a", "b"], ["/users/me/a", "b"]),
        ("dpo", "ref_model", "~/a", "/users/me/a"),
        ("dpo", "dataset", "~/a.jsonl, ~/b.jsonl,c", "/users/me/a.jsonl, /users/me/b.jsonl,c"),
        ("dpo", "dataset", ["~/a.jsonl", "b"], ["/users/me/a.jsonl", "b"]),
        ("dpo", "dataset", {"~/a.jsonl": 2.0}, {"/users/me/a.jsonl": 2.0}),
        ("dpo", "eval_dataset", "$DATA/a.jsonl", "/mnt/data/a.jsonl"),
        ("dpo", "dataset_dir", "~/data", "/users/me/data"),
        ("dpo", "mix_caps", {"~/a.jsonl": 5}, {"/users/me/a.jsonl": 5}),
        ("dpo", "reference_cache", "~/r.safetensors", "/users/me/r.safetensors"),
        ("dpo", "resume_from_checkpoint", "~/x/checkpoint-2", "/users/me/x/checkpoint-2"),
        ("dpo", "deepspeed", "~/ds.json", "/users/me/ds.json"),
        ("dpo", "fsdp_config", "~/fsdp.json", "/users/me/fsdp.json"),
        ("grpo", "ref_model", "~/a", "/users/me/a"),
    ],
)
def test_every_key_that_is_a_path(stage: str, key: str, written: Any, read: Any) -> None:
    given = {**BASE, "stage": stage, key: written}
    if stage == "grpo":
        given["rewards"] = "length:longer"
    assert getattr(config_from_values(given).config, key) == read


def test_rewards_and_judges() -> None:
    rewards = ["~/rm", "~/r.py:score", "lexicon:~/words.txt", {"judge": "lexicon:$DATA/w"}, "my.module:score"]
    config: Any = config_from_values({**BASE, "stage": "grpo", "rewards": rewards}).config
    assert [term.name for term in config.rewards] == [
        "/users/me/rm",
        "/users/me/r.py:score",
        "lexicon:/users/me/words.txt",
        "lexicon:/mnt/data/w",
        "my.module:score",
    ]
    assert expand_named("length:longer") == "length:longer"


def test_what_is_expanded_stays_what_it_is() -> None:
    for dataset in ("a, b", ["a"], {"a": 1.0}):
        assert expand_names(dataset) == dataset


def test_pipelines_and_sweeps_go_below_one_folder(tmp_path: Path) -> None:
    common = {"model_name_or_path": "m", "dataset": "d", "output_dir": "~/p", "drift_prompts": "~/q"}
    pipeline = load_pipeline(
        config_file(tmp_path / "p.yaml", {**common, "stages": [{"stage": "sft"}, {"stage": "dpo"}]})
    )
    assert pipeline.output_dir == Path("/users/me/p")
    assert pipeline.drift.drift_prompts == "/users/me/q"
    assert [run.config.output_dir for run in pipeline.runs] == ["/users/me/p/1-sft", "/users/me/p/2-dpo"]
    assert pipeline.runs[1].config.model_name_or_path == "/users/me/p/1-sft"
    sampled = {**common, "stage": "dpo", "rounds": 1, "dataset": None, "prompts": "~/q", "judge": "lexicon:~/w"}
    (first,) = load_pipeline(config_file(tmp_path / "r.yaml", sampled)).runs
    assert first.sampling is not None
    assert (first.sampling.prompts, first.sampling.judge) == ("/users/me/q", "lexicon:/users/me/w")
    assert first.config.dataset == "/users/me/p/round-1-data/pairs.jsonl"
    sweep = load_sweep(config_file(tmp_path / "s.yaml", {**BASE, "output_dir": "$DATA/s", "sweep": {"seed": [1]}}))
    assert sweep.points[0].config.output_dir == "/mnt/data/s/seed-1"
    with pytest.raises(ConfigError, match=r"output_dir: \$NOT_SET/p: the environment variable NOT_SET is not set"):
        load_pipeline(
            config_file(tmp_path / "q.yaml", {**common, "output_dir": "$NOT_SET/p", "stages": [{"stage": "sft"}]})
        )
