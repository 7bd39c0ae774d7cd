"""`palate plan` shows what would run, and its output runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from palate.config.load import load_config
from palate.config.pipeline import load_pipeline
from palate.config.sweep import load_sweep

CONFIG = (
    "stage: dpo\nmodel_name_or_path: model\ndataset: pairs.jsonl\noutput_dir: runs/a\nfp16: true\n"
    "per_device_train_batch_size: 4\ngradient_accumulation_steps: 8\nlora_rank: 4\n"
)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_it_says_what_follows_and_notes_on_stderr(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config_file)]) == 0
    captured = capsys.readouterr()
    assert "# examples to a step: 32 on each device" in captured.out
    assert "# loss at step 0: 0.6931" in captured.out
    assert "# reference: the policy as it starts" in captured.out
    assert captured.err.splitlines() == [
        "palate: note: fp16: true is read as precision: fp16",
        "palate: note: lora_rank has no effect with finetuning_type: full",
    ]


@pytest.mark.parametrize(
    "change", ["pref_loss=ipo", "stage=dpo", "report_to=[wandb, tensorboard]", "dataset={a: 1, b: 2}"]
)
def test_its_output_is_a_config_that_means_the_same(
    config_file: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config_file), "--set", change]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(again).config.resolved() == load_config(config_file, [change]).config.resolved()


def test_every_key_has_its_line(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config_file), "--set", "stage=sft", "--set", "columns={prompt: q, completion: a}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "stage: sft" in lines
    assert "columns: {prompt: q, completion: a}" in lines
    assert "# report_to: [tensorboard]" in lines
    assert "# eval_strategy: 'no'" in lines
    written = {line.removeprefix("# ").partition(":")[0] for line in lines}
    assert set(load_config(config_file, ["stage=sft"]).config.resolved()) <= written


def test_for_machines(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config_file", str(config_file), "seed=7", "--json"]) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert captured.err == ""
    assert (plan["config"]["seed"], plan["config"]["pref_beta"], plan["config"]["precision"]) == (7, 0.1, "fp16")
    assert len(plan["notices"]) == 2
    assert plan["facts"]["loss at step 0"] == "0.6931"


def test_a_stage_without_a_reference_has_none(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config_file), "--set", "stage=sft"]) == 0
    assert "reference" not in capsys.readouterr().out.partition("\n\n")[0]


STAGES = """
model_name_or_path: base
output_dir: runs/p
finetuning_type: lora
drift_samples: 5
stages:
  - {stage: sft, dataset: d.jsonl}
  - {stage: dpo, dataset: p.jsonl, pref_beta: 0.2}
  - stage: ppo
    dataset: q.jsonl
    num_generations: 2
    rewards: [{reward: "length:longer", weight: 0.5}, {judge: "lexicon:thanks"}]
"""
ROUNDS = """
stage: dpo
model_name_or_path: base
output_dir: runs/p
rounds: [{prompts_per_round: 8}, {learning_rate: 1.0e-6}]
reference: first
prompts: q.jsonl
judge: length:longer
"""


@pytest.mark.parametrize("text", [STAGES, ROUNDS], ids=["stages", "rounds"])
def test_a_pipelines_plan_is_a_pipeline_that_means_the_same(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, again = tmp_path / "given.yaml", tmp_path / "again.yaml"
    given.write_text(text, encoding="utf-8")
    assert main(["plan", str(given), "seed=7"]) == 0
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    first, second = load_pipeline(given, ["seed=7"]), load_pipeline(again)
    assert (first.kind, first.output_dir, first.drift) == (second.kind, second.output_dir, second.drift)
    for one, other in zip(first.runs, second.runs, strict=True):
        assert (one.name, one.sampling) == (other.name, other.sampling)
        assert one.config.resolved() == other.config.resolved()


def test_a_pipelines_plan_says_what_each_run_starts_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(STAGES, encoding="utf-8")
    assert main(["plan", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  # 2-dpo, in runs/p/2-dpo" in lines
    assert "    adapter_name_or_path: runs/p/1-sft" in lines
    assert "  # reward: 0.5·[length:longer] + 1·[lexicon:thanks]" in lines
    assert main(["plan", str(path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in plan["runs"]] == ["1-sft", "2-dpo", "3-ppo"]
    assert plan["runs"][1]["config"]["pref_beta"] == 0.2
    assert plan["drift"]["drift_samples"] == 5
    assert plan["notices"] == []


@pytest.mark.parametrize(
    "value",
    [
        "{seed: [1, 2], pref_beta: [0.1, 5e-1]}",
        "[{pref_loss: ipo}, {pref_loss: multi_soft, dimension_weights: {a: 1}}]",
    ],
)
def test_a_sweeps_plan_is_a_sweep_that_means_the_same(
    value: str, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config_file), "--set", f"sweep={value}"]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    first, second = load_sweep(config_file, [f"sweep={value}"]), load_sweep(again)
    assert [point.name for point in first.points] == [point.name for point in second.points]
    for one, other in zip(first.points, second.points, strict=True):
        assert one.config.resolved() == other.config.resolved()
    assert main(["plan", str(again), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == len(first.points)


def test_an_override_makes_a_pipeline(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config_file), "--set", "rounds=2", "--set", "rounds=3"]) == 0
    assert "# 3 runs, each from the one before" in capsys.readouterr().out


def test_a_mistake_in_a_pipeline_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(STAGES.replace("pref_beta", "pref_bta"), encoding="utf-8")
    assert main(["plan", str(path)]) != 0
    assert "unknown key pref_bta" in capsys.readouterr().err
