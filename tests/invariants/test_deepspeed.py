"""DeepSpeed's ZeRO-0 to ZeRO-3 in gloo processes: the weights of one process without it, and a resumed run.

`PALATE_DEEPSPEED_PYTHON` names an interpreter with `deepspeed` and what palate needs; without it the runs are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.errors import ConfigError
from palate.training.deepspeed import engine_settings
from palate.training.run import train
from palate.training.setup.session import prepare
from runs import command, config_file, distance, metrics, values

PYTHON = os.environ.get("PALATE_DEEPSPEED_PYTHON", sys.executable)
SOURCE = Path(__file__).resolve().parents[2] / "src"
RECIPES = SOURCE.parent / "examples" / "launch"
SHAPE: dict[str, Any] = {"rows": 11, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}
LORA = {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 1e-2}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"max_tokens_per_batch": 40},  # so that the ranks have different numbers of micro-batches
    "lora": LORA,
    "last layer": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "coupled": {"pref_loss": "aot"},
    "held out": {"val_size": 3, "eval_strategy": "steps", "eval_steps": 2},
    "accumulated": {"gradient_checkpointing": True, "gradient_accumulation_steps": 2, "rows_of_process": 1},
}
STAGES = [(0, "full"), (1, "full"), *((2, kind) for kind in KINDS), *((3, kind) for kind in KINDS)]
# The sums over ranks have another order, and so has the norm that limits ZeRO-3's gradients.
ROUNDING = 1e-5


def given(model: Path, folder: Path, kind: str, processes: int, **changed: Any) -> dict[str, Any]:
    """A run whose steps have the same rows in any number of processes."""
    found = {**SHAPE, "max_tokens_per_batch": 60, "reference_cache": f"{folder}.safetensors", **KINDS[kind], **changed}
    rows = found.pop("rows_of_process", 4 // processes)
    return values(model, folder, **{"per_device_train_batch_size": rows, **found})


def launch(configs: list[Path], processes: int) -> None:
    how = command()
    how["args"] = [PYTHON, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    how["args"] += [str(Path(__file__).with_name("several.py")), *map(str, configs)]
    how["env"] |= {"PYTHONPATH": str(SOURCE), "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(**how, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def zero(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds at their stages, in two processes that start once."""
    found = subprocess.run([PYTHON, "-c", "import deepspeed"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("deepspeed is not installed; name an interpreter that has it: PALATE_DEEPSPEED_PYTHON")
    root = tmp_path_factory.mktemp("zero")
    launch([sharded(model, root, stage, kind, 2) for stage, kind in STAGES], 2)
    return root


def sharded(model: Path, root: Path, stage: int, kind: str, processes: int, **changed: Any) -> Path:
    folder = root / f"{kind} {stage}"
    settings = str(RECIPES / f"ds_z{stage}.json") if stage > 1 else {"zero_optimization": {"stage": stage}}
    run = given(model, folder, kind, processes, deepspeed=settings, **changed)
    return config_file(root / f"{kind} {stage}.json", run)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kind"), STAGES)
def test_a_step_is_that_of_one_process(model: Path, tmp_path: Path, stage: int, kind: str, zero: Path) -> None:
    changed = {"rows_of_process": 2} if kind == "accumulated" else {}
    train(config_from_values(given(model, tmp_path / "one", kind, 1, **changed)).config)
    found = zero / f"{kind} {stage}"
    assert distance(tmp_path / "one", found) < ROUNDING
    for mine, theirs in zip(metrics(tmp_path / "one"), metrics(found), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
        assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-3)
    assert list((found / "checkpoint-3").glob("global_step3/*states.pt"))  # written by DeepSpeed


@pytest.mark.slow
def test_a_run_resumes(model: Path, tmp_path: Path, zero: Path) -> None:
    kinds = [(2, "full"), (3, "full"), (3, "lora")]
    start = {kind: {"resume_from_checkpoint": str(zero / f"{kind[1]} {kind[0]}" / "checkpoint-3")} for kind in kinds}
    launch([sharded(model, tmp_path, *kind, 2, **start[kind]) for kind in kinds], 2)
    for stage, kind in kinds:
        assert distance(zero / f"{kind} {stage}", tmp_path / f"{kind} {stage}") < ROUNDING


def test_max_grad_norm_holds_and_a_saved_model_has_all_weights(model: Path, tmp_path: Path) -> None:
    given = {"zero_optimization": {"stage": 3}}
    found = engine_settings(config_from_values(values(model, tmp_path / "run", deepspeed=given)).config)
    assert found == {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
    }
    assert given == {"zero_optimization": {"stage": 3}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clipping": 0.5}, 'gradient_clipping is 0.5 in the mapping, but max_grad_norm: 1.0; write "auto"'),
        ({"train_batch_size": 3}, "train_batch_size is 3 in the mapping, but a step's examples: 8"),
        ({"optimizer": {"type": "AdamW"}}, "remove optimizer from the mapping; optim and learning_rate of this config"),
        ({"scheduler": {"type": "WarmupLR"}}, "remove scheduler from the mapping; lr_scheduler_type of this config"),
        ({"zero_optimization": 3}, "zero_optimization a mapping too"),
    ],
)
def test_what_contradicts_the_config_is_refused(
    model: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    config = config_from_values(
        values(model, tmp_path / "run", deepspeed=settings, per_device_train_batch_size=8)
    ).config
    with pytest.raises(ConfigError) as raised:
        engine_settings(config)
    assert message in str(raised.value)


@pytest.mark.parametrize("sharding", [{"deepspeed": {"zero_optimization": {"stage": 2}}}, {"fsdp": True}])
def test_one_process_too_starts_with_torchrun(
    model: Path, tmp_path: Path, sharding: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.training.setup.arguments.find_spec", lambda name: name)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    run = values(model, tmp_path / "run", **sharding, reference_cache="auto")
    with pytest.raises(ConfigError, match=f"{next(iter(sharding))}: start with torchrun, one process too"):
        prepare(config_from_values(run).config)
