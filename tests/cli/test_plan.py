"""`palate plan` shows what would run, and its output runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from palate.config.load import load_config

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
