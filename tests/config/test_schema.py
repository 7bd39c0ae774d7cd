"""The JSON schemas of configs: current, and they mark nothing that palate accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
import yaml

from doc_pages import PAGES, blocks
from palate.cli.config import Kind, schema
from palate.cli.main import main
from palate.config.load import load_config
from palate.config.mapping.table import NO_EFFECT_PREFIXES, ONLY, RENAMED
from palate.config.pipeline import is_pipeline, load_pipeline
from palate.config.reader import read_yaml_file
from palate.config.run import STAGES
from palate.config.schema import train_schema
from palate.config.sweep import is_sweep, load_sweep
from palate.errors import ConfigError

TRAIN = train_schema()
BASE = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}


def marked(values: Any, document: dict[str, Any] | None = None) -> list[str]:
    """What an editor would mark, as path and message."""
    errors = jsonschema_rs.validator_for(document or TRAIN).iter_errors(values)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in errors]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_files_of_the_docs_are_current(kind: Kind, repository: Path, tmp_path: Path) -> None:
    assert main(["config", "schema", kind, "-o", str(tmp_path / "made.json")]) == 0
    made = (tmp_path / "made.json").read_text(encoding="utf-8")
    assert (repository / "docs" / "schemas" / f"{kind}.json").read_text(encoding="utf-8") == made, "run `make docs`"
    jsonschema_rs.meta.validate(json.loads(made))


def test_every_key_of_every_stage_has_its_meaning() -> None:
    keys = {key for model in STAGES.values() for key in model.model_fields}
    assert {*keys, *RENAMED, "stages", "rounds", "sweep", "config_version"} <= set(TRAIN["properties"])
    assert all(part["description"] for part in TRAIN["properties"].values())
    companions = {prefix for only in ONLY.values() for prefix in only.companions}
    assert set(TRAIN["patternProperties"]) == {f"^{prefix}" for prefix in {*NO_EFFECT_PREFIXES, *companions}}


def configs(repository: Path) -> list[tuple[str, Any]]:
    """All configs of `palate train` that the repository shows: presets and blocks of the manual."""
    found = [(str(path), read_yaml_file(path)) for path in sorted((repository / "configs").rglob("*.yaml"))]
    for page in PAGES:
        for block in blocks(page):
            if block.language == "yaml":
                found.append((block.where, yaml.safe_load(block.text)))
    return [(name, one) for name, one in found if isinstance(one, dict) and {"stage", "stages", "rounds"} & set(one)]


def test_no_config_of_the_repository_is_marked(repository: Path) -> None:
    found = configs(repository)
    assert len(found) > 20
    assert {name: lines for name, one in found if (lines := marked(one))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate: '5e-7'", "bf16: yes", "lora_target: q_proj, v_proj", "report_to: none", "report_to: null",
        "report_to: [wandb, mlflow]", "report_to: false", "run_name: 2024", "eval_strategy: no\nsave_strategy: off",
        "warmup_steps: 0.1", "save_steps: 100", "dataset: {a.jsonl: 2, b.jsonl: 0.5}", "labels: {0: response_1}",
        "beta: 0.2", "ray_num_workers: 4", "pref_beta: null", "pref_loss: {sigmoid: 1, ipo: 0.5}", "health: off",
        "reference_cache: no", "overwrite_cache: true", "swanlab_mode: local", "f_divergence_type: js_divergence",
        "stage: grpo\nrewards: length:shorter", "stage: sft\nmask_history: yes", "config_version: 1",
        "gradient_checkpointing: 'TRUE'", "trust_remote_code: 1", "save_only_model: 'F'", "save_strategy: 'OFF'",
        "stage: grpo\nrewards: [{judge: 'openai:m', weight: 2}, 'length:shorter']", "fsdp: full_shard auto_wrap",
        "lr_scheduler_kwargs: {min_lr: 1e-7}\nlr_scheduler_type: cosine_with_min_lr",
    ],
)  # fmt: skip
def test_what_palate_accepts_is_not_marked(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    base = "".join(f"{key}: {value}\n" for key, value in BASE.items() if f"{key}:" not in text)
    path.write_text(base + text + "\n", encoding="utf-8")
    load_config(path)
    assert marked(read_yaml_file(path)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rat": 1e-6},
        {"stage": "dpoo"},
        {"learning_rate": "fast"},
        {"learning_rate": -1},
        {"finetuning_type": "LORA"},
        {"gradient_checkpointing": "maybe"},
        {"save_steps": 0},
        {"config_version": 2},
        {"rewards": [{"reward": "a:b", "wieght": 1}], "stage": "grpo"},
    ],
)
def test_what_is_wrong_is_marked_and_refused(values: dict[str, Any], tmp_path: Path) -> None:
    assert marked({**BASE, **values})
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({**BASE, **values}), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(path)


def test_pipelines_and_sweeps(tmp_path: Path) -> None:
    base = "model_name_or_path: m\noutput_dir: o\n"
    dpo = f"{base}stage: dpo\n"
    texts = {
        "stages.yaml": f"{base}stages:\n  - {{stage: sft, dataset: a}}\n  - {{stage: dpo, dataset: b, bf16: no}}\n",
        "rounds.yaml": f"{dpo}prompts: p\njudge: length:longer\nrounds: 2\n",
        "sweep.yaml": f"{dpo}dataset: d\nsweep: {{pref_beta: [0.1, 0.2]}}\n",
        "list.yaml": f"{dpo}dataset: d\nsweep: [{{pref_beta: 0.1}}, {{seed: 2}}]\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        (load_sweep if is_sweep(path) else load_pipeline)(path)
        assert is_sweep(path) or is_pipeline(path)
        assert marked(read_yaml_file(path)) == []
    assert marked({"stages": [{"stage": "sft", "datset": "a"}]})
    assert marked({"sweep": {"pref_beta": 0.1}})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("loop", "name: a\ntrain: dpo.yaml\ngate: gate.yaml\nannotate: {people: none, judge: runs/rm}\nschedule: none",
         "canary: {shre: 0.1}"),
        ("gate", "prompts: p.jsonl\njudge: people\nlength_ratio: [0.8, 1.2]", "length_ratio: [0.8, 1.0, 1.2]"),
        ("serve", "models: {a: {model: runs/dpo}, b: {upstream: 'http://127.0.0.1:1/v1'}}\nhttps: no",
         "models: {a: {upstream: 'ftp://x'}}"),
        ("campaign", "tags: [wrong]\nvotes_per_item: 3\nper_prompt: null", "votes_per_item: three"),
    ],
)  # fmt: skip
def test_the_other_kinds(kind: Kind, good: str, bad: str, tmp_path: Path) -> None:
    found = []
    for text in (good, f"{good}\n{bad}\n"):
        keys = {line.split(":")[0]: line for line in text.splitlines()}
        (tmp_path / "one.yaml").write_text("\n".join(keys.values()), encoding="utf-8")
        found.append(marked(read_yaml_file(tmp_path / "one.yaml"), schema(kind)))
    assert found[0] == []
    assert found[1]
