"""`palate plan` shows what would run, and its output runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.config.load import load_config
from palate.config.pipeline import load_pipeline
from palate.config.sweep import load_sweep
from palate.data.stream import RecordStream
from runs import write_rows
from tiny import save_tiny

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
    ("changes", "counted"),
    [
        (["stage=dpo"], "1 from 24 training rows"),
        (["stage=dpo", "val_size=0.25", "gradient_accumulation_steps=1"], "5 from 18 training rows (6 held out)"),
        (["stage=kto", "gradient_accumulation_steps=2"], "6 from 48 training rows"),  # both answers of each pair
        (["stage=sft", "num_train_epochs=3"], "3 from 24 training rows"),
        (["dataset=absent.jsonl"], "not counted: dataset 'absent.jsonl' is not there"),
        (["dataset=owner/name"], "not counted: the data is large, or not on this machine"),
    ],
)
def test_it_counts_the_steps_of_data_on_this_machine(
    config_file: Path, changes: list[str], counted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(24)]
    data = write_rows(config_file.with_name("pairs.jsonl"), rows)
    assert main(["plan", str(config_file), f"dataset={data}", *changes, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["facts"]["optimiser steps"].startswith(counted)
    few = [line for line in plan["notices"] if "rows make only" in line]
    assert len(few) == (not counted.startswith("not counted"))


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


def test_the_steps_of_each_run_of_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stages.yaml").write_text(STAGES, encoding="utf-8")
    Path("rounds.yaml").write_text(ROUNDS, encoding="utf-8")
    write_rows(Path("d.jsonl"), [{"prompt": f"q{n}", "completion": "a"} for n in range(24)])
    write_rows(Path("p.jsonl"), [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(12)])
    assert main(["plan", "stages.yaml", "per_device_train_batch_size=2"]) == 0
    told = capsys.readouterr()
    steps = [line.strip() for line in told.out.splitlines() if "optimiser steps" in line]
    assert steps[:2] == ["# optimiser steps: 12 from 24 training rows", "# optimiser steps: 6 from 12 training rows"]
    assert steps[2].startswith("# optimiser steps: not counted: dataset 'q.jsonl' is not there")
    assert told.err == ("palate: note: 2-dpo: 12 rows make only 6 steps; set per_device_train_batch_size: 1\n")
    assert main(["plan", "rounds.yaml", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert {run["facts"]["optimiser steps"] for run in runs} == {"not counted: the run samples its rows"}


def test_the_steps_of_each_run_of_a_sweep_whose_data_is_read_once(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(64)]
    data = write_rows(config_file.with_name("pairs.jsonl"), rows)
    read: list[object] = []
    monkeypatch.setattr(RecordStream, "__init__", partialmethod(_count_reads, read, RecordStream.__init__))
    value = "sweep={gradient_accumulation_steps: [1, 8], pref_beta: [0.1, 0.5]}"
    assert main(["plan", str(config_file), f"dataset={data}", value, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    steps = [point["facts"]["optimiser steps"] for point in plan["points"]]
    assert steps == ["16 from 64 training rows"] * 2 + ["2 from 64 training rows"] * 2
    assert len(read) == 1
    few = [note for note in plan["notices"] if "make only" in note]
    names = [point["name"] for point in plan["points"][2:]]
    assert [note.partition(":")[0] for note in few] == [", ".join(names)]


def _count_reads(stream: object, read: list[object], begin: Callable[..., None], *given: Any, **named: Any) -> None:
    read.append(stream)
    begin(stream, *given, **named)


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


H100 = ["--hardware", "H100"]
GIVEN = ["--rows", "100", "--prompt-tokens", "64", "--answer-tokens", "32"]


def test_with_hardware_the_output_is_still_the_config(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["model_name_or_path=1B"]
    assert main(["plan", str(config_file), *changes, *H100, *GIVEN, "--devices", "2", "--price", "3"]) == 0
    out = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(out, encoding="utf-8")
    assert load_config(again).config.resolved() == load_config(config_file, changes).config.resolved()
    tail = out[out.index("# Computed, not measured: 2 × H100, DDP, fp16") :].splitlines()
    assert max(map(len, tail)) <= 80
    assert "# data: 100 rows, lengths as given" in tail
    assert any(line.startswith("# the run, 2 steps") and "cost" in line for line in tail)


def test_capacity_for_machines(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config_file), "model_name_or_path=1B", *H100, *GIVEN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["capacity"]
    assert found["measured"] is False
    assert found["memory"]["fits"] is True
    assert (found["data"]["rows"], found["cost"], found["devices"]) == (100, None, 1)


@pytest.mark.parametrize(("model", "how"), [("tiny", "tokens counted in 3"), ("1B", "tokens taken as 4 characters")])
def test_lengths_come_from_the_data(
    tmp_path: Path, model: str, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "tiny")
    pair = {"prompt": "p" * 39, "chosen": "c" * 16, "rejected": "r" * 80}
    rows = [{**pair, "prompt": f"{number}{pair['prompt']}"} for number in range(3)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = "stage: dpo\nmodel_name_or_path: {}\ndataset: pairs.jsonl\noutput_dir: runs/a\nval_size: 1\n"
    Path("run.yaml").write_text(config.format(model), encoding="utf-8")
    assert main(["plan", "run.yaml", *H100, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["capacity"]
    assert found["data"]["rows"] == 2
    assert how in found["data"]["lengths"]
    if model == "1B":
        assert found["memory"]["tokens"] == 40 // 4 + 16 // 4 + 80 // 4


def test_the_machine_itself_is_measured(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.training.setup.speed.this_machine.__defaults__", (0.01,))
    monkeypatch.setattr("palate.training.setup.speed.total_memory", lambda: (32_000_000_000, False))
    assert main(["plan", str(config_file), "model_name_or_path=1B", "--hardware", "this", *GIVEN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["capacity"]
    assert found["memory"]["limit"] == 32e9
    assert found["hardware"]["gpu"] is False
    assert 1e-3 < found["hardware"]["tflops"] < 100
    assert 0.1 < found["hardware"]["bandwidth"] < 2000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hardware", "H9000", *GIVEN], "H9000: not known; choose this, H100"),
        (["--devices", "8"], "belong to an estimate; add --hardware"),
        ([*H100, "--rows", "5"], "are given together"),
        ([*H100, *GIVEN, "model_name_or_path=nothing"], "nothing: its config.json cannot be read"),
        ([*H100, "model_name_or_path=1B"], "or give --rows, --prompt-tokens and --answer-tokens"),
        ([*H100, *GIVEN, "--price", "-1"], "--price"),
    ],
)
def test_a_wrong_estimate_is_one_line(
    config_file: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config_file), *options]) in (1, 2)
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("palate: error:") == 1
    assert captured.out == ""


def test_an_estimate_is_of_a_single_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(CONFIG + "sweep:\n  - learning_rate: 1.0e-5\n", encoding="utf-8")
    assert main(["plan", str(path), *H100, *GIVEN]) == 2
    assert "estimates a single run" in capsys.readouterr().err
