"""LLaMA-Factory users' files run as they are: ../shared/cases/yaml, and siblings of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.config.load import load_config
from palate.config.reader import read_config_file
from runs import metrics, pairs, run_json, write_rows
from tiny import save_tiny

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "cases" / "yaml"
NAMES = (
    *("booking_dpo", "booking_sft", "hf_ratio_steps", "lf10560", "lf1920_two_adapters", "lf3821", "lf4005"),
    *("lf4108_cli", "lf7665_new_tokens", "lf_mix_stream", "mine_qlora", "simpo_gen", "tutor_sft", "webui_dpo"),
    "webui_kto",
)
ROWS = 20

# What a tiny model on a CPU cannot do, or what would only take time; all else stays as it was written.
CHANGED: dict[str, list[str]] = {
    "mine_qlora": ["quantization_bit=null", "num_train_epochs=1"],  # 4 bits need bitsandbytes and a CUDA device
    "lf10560": ["num_train_epochs=4", "save_strategy=no"],  # enough steps to see the schedule
    "tutor_sft": ["report_to=none"],  # wandb wants a key
    "webui_kto": ["num_train_epochs=1"],  # 120 epochs
}


def case(name: str) -> Path:
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        pytest.skip(f"../shared/cases/yaml/{name}.yaml is not there")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny", num_hidden_layers=2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command runs, with the data that the files name."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "plain.jsonl", pairs(ROWS))
    return tmp_path


def add_adapters(model: Path, folder: Path) -> None:
    """The adapters that two of the files name."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for name in ("pt_adapter", "sft_adapter"):
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(model), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        )
        adapted.save_pretrained(folder / "models" / name)


def train(path: Path, model: Path, *changed: str) -> int:
    fixed = [f"model_name_or_path={model}", "torch_threads=1", "reference_cache=off", "sample_prompts=0"]
    if read_config_file(path)["stage"].value == "sft":
        fixed = fixed[:2]
    return main(["train", str(path), *(part for one in (*fixed, *changed) for part in ("--set", one))])


def test_the_list_is_whole() -> None:
    if not FOLDER.exists():
        pytest.skip("../shared/cases/yaml is not there")
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_plans_and_each_of_its_keys_has_an_effect_or_is_said(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(case(name))]) == 0
    captured = capsys.readouterr()
    planned = captured.out
    for key in read_config_file(case(name)):
        ours = any(line.startswith((f"{key}:", f"# {key}:")) for line in planned.splitlines())
        # Silent: what palate does anyway, and the other half of a choice that is said.
        assert ours or key in ("do_train", "fp16") or key in captured.err, key
    assert sum(line.startswith("palate: note: no effect here") for line in captured.err.splitlines()) <= 1


def shares_of_the_steps(run: Path) -> None:
    """hf_ratio_steps: of 15 steps (20 pairs, a quarter held out) a tenth is 2 and a half is 8."""
    assert max(row["step"] for row in metrics(run)) == 15
    assert sorted({row["step"] for row in metrics(run, "eval")}) == [2, 4, 6, 8, 10, 12, 14, 15]
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-15", "checkpoint-8"]


def warmup_by_a_share(run: Path) -> None:
    """lf4005: 18 pairs, 2 a step, 3 epochs are 27 steps; warmup_steps: 0.1 rises over ceil(2.7) = 3 of them."""
    rates = [row["learning_rate"] for row in metrics(run)]
    assert len(rates) == 27
    assert rates[:4] == pytest.approx([0.0, 1e-4 / 3, 2e-4 / 3, 1e-4])
    assert rates[4] < rates[3]


def least_rate(run: Path) -> None:
    """lf10560: 20 rows, 8 a step, 4 epochs are 12 steps; step n: 7e-7 + (7e-6 - 7e-7)·½(1 + cos πn/12)."""
    rates = [row["learning_rate"] for row in metrics(run)]
    assert rates == pytest.approx([7e-7 + 6.3e-6 * 0.5 * (1 + math.cos(math.pi * n / 12)) for n in range(12)])


def restarts(run: Path) -> None:
    """tutor_sft: 18 rows, 8 a step, 2 epochs are 6 steps, of which ceil(0.3) = 1 warms up; one cycle falls to 0."""
    rates = [row["learning_rate"] for row in metrics(run)]
    assert rates == pytest.approx([0.0, *(3e-5 * 0.5 * (1 + math.cos(math.pi * n / 5)) for n in range(5))])


# What came of the keys that were refused before.
CHECKED: dict[str, Callable[[Path], None]] = {
    "hf_ratio_steps": shares_of_the_steps,
    "lf4005": warmup_by_a_share,
    "lf10560": least_rate,
    "tutor_sft": restarts,
}


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str, here: Path, model: Path) -> None:
    path = case(name)
    if "adapter" in path.read_text():
        add_adapters(model, here)
    if name == "webui_kto":
        labelled = [
            {"prompt": row["prompt"], "completion": row["chosen"], "label": n % 2 == 0}
            for n, row in enumerate(pairs(ROWS))
        ]
        write_rows(here / "plain.jsonl", labelled)
    assert train(path, model, *CHANGED.get(name, [])) == 0
    run = here / "out" / "x"
    assert run_json(run)["status"] == "completed"
    losses = [row["loss"] for row in metrics(run)]
    assert losses
    assert all(map(math.isfinite, losses))
    if name in CHECKED:
        CHECKED[name](run)


def test_a_home_folder_holds_the_whole_run_and_it_goes_on_from_there(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`output_dir: ~/runs/x` was one folder for the run and another for its checkpoints, and resumed from nothing."""
    home, work = here / "home", here / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", str(here))
    monkeypatch.chdir(work)
    path = work / "run.yaml"
    path.write_text(
        "stage: dpo\nmodel_name_or_path: m\ndataset: $DATA/plain.jsonl\noutput_dir: ~/runs/x\nreport_to: none\n"
        "save_steps: 2\nsave_strategy: steps\nlogging_steps: 1\nper_device_train_batch_size: 4\n"
    )
    assert train(path, model, "max_steps=2") == 0
    run = home / "runs" / "x"
    assert sorted(child.name for child in run.glob("checkpoint-*")) == ["checkpoint-2"]
    assert run_json(run)["config"]["output_dir"] == str(run)
    assert train(path, model, "max_steps=4", "resume_from_checkpoint=~/runs/x/checkpoint-2") == 0
    assert [row["step"] for row in metrics(run)] == [1, 2, 3, 4]
    assert sorted(child.name for child in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert main(["report", "~/runs/x", "--output=~/page.html"]) == 0
    assert (home / "page.html").exists()
    assert [child.name for child in work.iterdir()] == ["run.yaml"]


def test_four_bits_without_a_gpu_are_refused_at_train_in_one_line(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(case("mine_qlora"), model) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("palate: error")]
    assert len(errors) == 1
    assert "quantization_bit: 4 needs a CUDA GPU" in errors[0]
    assert not (here / "out" / "x" / "run.json").exists() or run_json(here / "out" / "x")["status"] == "failed"


BEST = "stage: dpo\nload_best_model_at_end: true\neval_strategy: steps\nval_size: 0.1\n"
BASE = "model_name_or_path: m\ndataset: plain.jsonl\noutput_dir: out/x\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("stage: dpo\nlogging_steps: 0.2\nsave_steps: 0.25\n", {"logging_steps": 0.2, "save_steps": 0.25}),
        ("stage: dpo\nwarmup_steps: 12\n", {"warmup_steps": 12}),
        ("stage: dpo\nbeta: 0.3\n", {"pref_beta": 0.3}),
        ("stage: kto\nbeta: 0.3\npref_loss: kto_pair\n", {"pref_beta": 0.3, "pref_loss": "kto"}),
        ("stage: sft\nearly_stopping_steps: 3\nval_size: 0.1\neval_strategy: epoch\n", {"early_stopping_patience": 3}),
        ("stage: sft\npure_bf16: true\n", {"precision": "bf16"}),
        ("stage: sft\nval_size: 0\neval_strategy: epoch\n", {"eval_strategy": "no"}),
        ("stage: sft\nbf16: yes\noverwrite_output_dir: on\n", {"precision": "bf16", "overwrite_output_dir": True}),
        ("stage: sft\nresume_from_checkpoint: no\n", {"resume_from_checkpoint": False}),
        (
            "stage: dpo\nreport_to: no\nload_best_model_at_end: off\n",
            {"report_to": [], "load_best_model_at_end": False},
        ),
        (
            "stage: dpo\nlr_scheduler_type: cosine_with_restarts\nlr_scheduler_kwargs: {num_cycles: 3}\n",
            {"lr_scheduler_kwargs": {"num_cycles": 3}},
        ),
        (
            "stage: dpo\nload_best_model_at_end: true\neval_strategy: steps\nval_size: 0.1\neval_steps: 0.1\n"
            "save_steps: 0.3\n",
            {"save_steps": 0.3},
        ),
        ("stage: ppo\nreward_model: saves/rm\nreward_model_type: lora\ntop_k: 0\n", {"max_new_tokens": 128}),
        ("stage: sft\nuse_swanlab: false\nswanlab_project: p\nuse_badam: false\nbadam_mode: layer\n", {}),
        ("stage: sft\ntorch_compile: true\ntf32: true\nhub_model_id: null\nnothing_known: null\n", {}),
    ],
)
def test_siblings_plan(lines: str, expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(BASE + lines)
    config = load_config(path).config
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ("stage: dpo\nuse_badam: true\nuse_llama_pro: true\nignore_pad_token_for_loss: false\n", 3),
        ("stage: dpo\nlogging_steps: 1.5\nsave_steps: 0\nwarmup_steps: -1\n", 3),
        ("stage: dpo\nlr_scheduler_type: cosine_with_min_lr\n", 1),
        ("stage: dpo\nlr_scheduler_kwargs: {min_lr: 1e-7}\n", 1),
        (BEST + "eval_steps: 0.2\nsave_steps: 0.3\n", 1),
        (BEST + "eval_steps: 10\nsave_steps: 0.3\n", 1),
        ("stage: sft\nload_best_model_at_end: true\nval_size: 0\neval_strategy: epoch\nsave_strategy: epoch\n", 1),
        ("stage: dpo\nreduce_memory: 1\nquantization_method: hqq\nquantization_type: fp4\n", 3),
    ],
)
def test_siblings_that_are_refused_are_refused_in_one_message(
    lines: str, refused: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(BASE + lines)
    assert main(["plan", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = captured.err.splitlines()
    assert len(errors) == refused
    assert all(line.startswith(f"palate: error: {path}") for line in errors)
