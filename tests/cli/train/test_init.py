"""`palate init`: the first config fits the rows, the model and the memory, and trains as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from palate.capacity.shapes import ModelShape
from palate.cli.main import main
from palate.config.load import load_config
from palate.config.reader import read_yaml_file
from tiny import save_tiny

TURNS = {"prompt": "What is {0} and {0}?", "chosen": "It is twice {0}.", "rejected": "Nobody knows {0}."}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("init") / "model")


def written(folder: Path, model: Path, rows: list[dict[str, Any]], *options: str) -> Any:
    """The config that is written for these rows."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    output = folder / "run.yaml"
    assert main(["init", str(data), "--model", str(model), "--output", str(output), "--workers", "1", *options]) == 0
    loaded = load_config(output)
    assert loaded.notices == ()
    return loaded.config


def pairs(count: int) -> list[dict[str, Any]]:
    return [{key: text.format(number) for key, text in TURNS.items()} for number in range(count)]


def test_pairs_become_a_dpo_run_that_trains(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, model, pairs(60))
    assert (config.stage, config.pref_loss, config.finetuning_type) == ("dpo", "sigmoid", "full")
    assert (config.val_size, config.learning_rate, config.output_dir) == (0.1, 1e-5, "runs/rows")
    assert config.cutoff_len % 128 == 0
    monkeypatch.chdir(tmp_path)
    assert main(["train", "run.yaml", "--set", "max_steps=1", "--set", "save_strategy=no"]) == 0
    facts = json.loads((tmp_path / "runs" / "rows" / "run.json").read_text())
    assert facts["status"] == "completed"
    assert facts["data"]["train_groups"] == 54  # six prompts are held out, none is truncated away


@pytest.mark.parametrize(("rows", "epochs", "steps"), [(60, 3, 7), (1200, 2, 135), (2200, 1, 248)])
def test_few_rows_are_read_more_than_once(tmp_path: Path, model: Path, rows: int, epochs: int, steps: int) -> None:
    """A tenth is held out, and a step has 8 rows; 240 steps or more are wanted, in at most three passes."""
    assert written(tmp_path, model, pairs(rows)).num_train_epochs == epochs
    line = next(line for line in (tmp_path / "run.yaml").read_text().splitlines() if line.startswith("num_train"))
    assert f"# {steps} steps each" in line


def test_the_schema_beside_the_config_is_named_in_its_first_line(tmp_path: Path, model: Path) -> None:
    written(tmp_path, model, pairs(4), "--schema")
    first = (tmp_path / "run.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=palate.schema.json"
    schema = json.loads((tmp_path / "palate.schema.json").read_text(encoding="utf-8"))
    assert jsonschema_rs.is_valid(schema, read_yaml_file(tmp_path / "run.yaml"))
    assert not jsonschema_rs.is_valid(schema, {"learning_rte": 1})


LABELLED = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 4 > 0} for n in range(40)]
RANKED = [{"instruction": f"q{n}", "output": [f"best {n}", f"fair {n}", f"bad {n}"]} for n in range(4)]
DIMENSIONS = [
    {**row, "dimensions": {"helpful": {"chosen": 3, "rejected": 1}, "safe": {"chosen": 1, "rejected": 2}}}
    for row in pairs(4)
]


@pytest.mark.parametrize(
    ("rows", "options", "values"),
    [
        (LABELLED, [], {"stage": "kto", "kto_rejected_weight": round(3 / 1.15, 2), "val_size": 0.0}),
        (RANKED, [], {"stage": "dpo", "pref_loss": "plackett_luce"}),
        (DIMENSIONS, [], {"pref_loss": "multi_soft", "dimension_weights": {"helpful": 0.5, "safe": 0.5}}),
        ([{"prompt": "q", "completion": "a"}], [], {"stage": "sft", "learning_rate": 1e-5}),
        ([{"prompt": "q", "response": "a", "score": 0.5}], [], {"stage": "rm", "pref_loss": "reward_regression"}),
        ([{"prompt": "q"}], ["--reward", "length:shorter"], {"stage": "grpo", "cutoff_len": 256}),
        (pairs(3), ["--stage", "rm"], {"stage": "rm", "pref_loss": "bradley_terry"}),
        (pairs(3), ["--stage", "kto"], {"stage": "kto"}),
        ([{"q": "a", "chosen": "b", "rejected": "c"}], ["--column", "prompt=q"], {"columns": {"prompt": "q"}}),
    ],
)
def test_the_stage_follows_the_rows(
    tmp_path: Path, model: Path, rows: list[dict[str, Any]], options: list[str], values: dict[str, Any]
) -> None:
    config = written(tmp_path, model, rows, *options)
    assert {key: getattr(config, key) for key in values} == values


LLAMA_7B = ModelShape("7B", "llama", 32, 4096, 11_008, 32, 32, 128, 32_000, max_positions=4096)


def test_the_tuning_follows_the_memory(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    # Weights, gradients and Adam's states alone are 108 GB; bf16 weights for LoRA 14 GB, and 4-bit ones 4 GB.
    monkeypatch.setattr("palate.capacity.shapes.read_shape", lambda *_: LLAMA_7B)
    for memory in ("200", "80", "16", "10"):
        folder = tmp_path / memory
        folder.mkdir()
        found[memory] = written(folder, model, pairs(3), "--memory", memory)
    assert [(one.finetuning_type, one.quantization_bit) for one in found.values()] == [
        ("full", None), ("lora", None), ("lora", 4), ("lora", 4)
    ]  # fmt: skip
    assert (found["200"].learning_rate, found["80"].learning_rate) == (5e-7, 5e-6)
    assert found["200"].num_train_epochs == 2  # few rows, but no small model
    capsys.readouterr()
    (tmp_path / "rows.jsonl").write_text(json.dumps(pairs(1)[0]) + "\n", encoding="utf-8")
    given = ["init", str(tmp_path / "rows.jsonl"), "--model", str(model), "--output", str(tmp_path / "x.yaml")]
    assert main([*given, "--memory", "4"]) == 2
    assert "6.7 billion parameters and needs" in capsys.readouterr().err
    monkeypatch.setattr("palate.models.precision.total_memory", lambda: (24_000_000_000, False))
    assert main(given) == 2, "4-bit weights need a GPU"
    assert not (tmp_path / "x.yaml").exists()


def test_plan_gives_the_figure_of_init(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, model, pairs(3), "--memory", "80")
    reason = next(
        line for line in (tmp_path / "run.yaml").read_text().splitlines() if line.startswith("finetuning_type")
    )
    capsys.readouterr()
    plan = ["plan", str(tmp_path / "run.yaml"), "--hardware", "memory=80,tflops=100,bandwidth=1000", "--json"]
    assert main([*plan, "--set", f"dataset={tmp_path / 'rows.jsonl'}"]) == 0
    peak = json.loads(capsys.readouterr().out)["capacity"]["memory"]["peak"]
    assert f"{peak / 1e9:.1f} GB at the peak; 80 GB GPU" in reason


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"prompt": "q"}], [], "name what scores its answers with --reward"),
        (pairs(2), ["--reward", "length:shorter"], "--reward is for stage ppo and grpo"),
        (
            [{"prompt": "q", "completion": "a"}],
            ["--stage", "dpo"],
            "stage dpo needs pairs, and there are demonstrations",
        ),
        ([{"prompt": "q", "chosen": "a", "rejected": "a"}] * 3, [], "3 of 3 rows cannot be used"),
        ([{"x": 1}], [], "rows.jsonl"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, model: Path, rows: list[Any], options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "rows.jsonl", tmp_path / "run.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["init", str(data), "--model", str(model), "--output", str(output), *options]) in (1, 2)
    err = capsys.readouterr().err
    assert words in err
    assert err.count("palate: error:") == 1
    assert not output.exists()


def test_a_config_is_not_overwritten(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run.yaml"
    output.write_text("mine", encoding="utf-8")
    assert main(["init", "pairs.jsonl", "--model", str(model), "--output", str(output)]) == 2
    assert "exists; name another file with --output" in capsys.readouterr().err
    assert output.read_text(encoding="utf-8") == "mine"
