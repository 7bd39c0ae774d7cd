"""FSDP2 and DDP in two and four gloo processes: weights of one process, a dead rank, other numbers of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.artifacts import verify_folder
from palate.config.load import config_from_values
from palate.errors import ConfigError
from palate.models.reference.store import ReferenceStore
from palate.training.run import train
from palate.training.setup.session import prepare
from runs import command, config_file, distance, metrics, run_json, train_several, values, weights
from tiny import save_tiny

SCRIPT = Path(__file__).parent / "sharded.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}}
OFFLOADED = {**FSDP, "fsdp_config": {**FSDP["fsdp_config"], "offload_params": True}}  # type: ignore[dict-item]
# 11 rows in steps of 4: the last step of an epoch lacks one. A budget of 40 tokens gives the ranks different numbers of
# micro-batches.
SHAPE: dict[str, Any] = {"rows": 11, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}
LORA = {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 1e-2, "max_tokens_per_batch": 60}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"max_tokens_per_batch": 40},
    "lora": LORA,
    "last layer": {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "max_tokens_per_batch": 60},
    "coupled": {"pref_loss": "aot", "max_tokens_per_batch": 60},
}
OTHER_KINDS: dict[str, dict[str, Any]] = {
    "reward": {"stage": "rm", "sample_prompts": None, "reference_cache": None, "max_tokens_per_batch": 60},
    "adapted reward": {**LORA, "stage": "rm", "sample_prompts": None, "reference_cache": None},
    "separate": {"max_tokens_per_batch": 60},
    "merged": {**LORA, "create_new_adapter": True},
    "continued": LORA,
    # Adam turns rounding of a new token's small gradients into steps of the learning rate.
    "vocabulary": {**LORA, "add_tokens": ["newword"], "resize_vocab": True, "learning_rate": 5e-4},
}
# Rounding only: the sums over ranks have another order.
ROUNDING = 5e-6


def given(model: Path, folder: Path, kind: str, processes: int, **changed: Any) -> dict[str, Any]:
    """A run whose steps have the same rows in any number of processes; its reference's values have a file."""
    # A copy of the policy, which is the reference without stored values, cannot be made of a sharded model.
    store = {} if kind == "lora" else {"reference_cache": f"{folder}.safetensors"}
    shape = {**SHAPE, **store, **(KINDS | OTHER_KINDS)[kind], **changed}
    return values(model, folder, per_device_train_batch_size=4 // processes, **shape)


def trained(model: Path, root: Path, runs: dict[str, dict[str, Any]], processes: int) -> Path:
    """Runs by name, each of a kind (the name's first part) with changed keys, in processes that start once."""
    root.mkdir(exist_ok=True)
    configs = [
        config_file(root / f"{name}.json", given(model, root / name, name.partition("-")[0], processes, **changed))
        for name, changed in runs.items()
    ]
    train_several(configs, processes, "sharded")
    return root


def alone(model: Path, folder: Path, kind: str, **changed: Any) -> Path:
    train(config_from_values(given(model, folder, kind, 1, **changed)).config)
    return folder


@pytest.fixture(scope="module")
def two(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(model, tmp_path_factory.mktemp("sharded") / "two", dict.fromkeys(KINDS, FSDP), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_two_shards_end_with_the_weights_of_one_process(model: Path, tmp_path: Path, kind: str, two: Path) -> None:
    one = alone(model, tmp_path / "one", kind)
    assert run_json(two / kind)["machine"]["processes"] == 2
    assert distance(one, two / kind) < ROUNDING
    assert max(float(tensor.abs().max()) for tensor in weights(one).values()) > 1000 * ROUNDING
    for mine, theirs in zip(metrics(one), metrics(two / kind), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
        assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-3)
    assert verify_folder(two / kind / "checkpoint-3") == []
    assert (two / kind / "checkpoint-3" / "pytorch_model_fsdp.bin").exists()  # written by FSDP, not by DDP


def test_the_ranks_share_the_reference_pass(two: Path) -> None:
    """Both ranks had every value of the 11 rows: the file is complete, and the weights are those of one process."""
    path = two / "full.safetensors"
    identity = run_json(two / "full")["reference"]["identity"]
    assert len(ReferenceStore.open(path, f"{identity}-fp32")) == 11


def test_a_copy_as_reference_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun does
    with pytest.raises(ConfigError, match=r"fsdp: the reference would be a copy of the policy"):
        prepare(config_from_values(values(model, tmp_path / "run", **FSDP)).config)
    stored = values(model, tmp_path / "run", **FSDP, reference_cache="auto")
    assert "fsdp has no effect on a CPU" in "\n".join(prepare(config_from_values(stored).config).log.lines)


@pytest.mark.parametrize("key", ["fsdp", "deepspeed"])
def test_sharding_of_accelerates_config_is_refused(
    model: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{key.upper()}", "true")
    with pytest.raises(ConfigError, match=rf"accelerate's config turns {key} on; write {key} into this config instead"):
        prepare(config_from_values(values(model, tmp_path / "run")).config)


@pytest.mark.slow
def test_other_models_load_in_parts_and_train_as_in_one_process(model: Path, tmp_path: Path, two: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=1, initializer_range=0.2)
    keys: dict[str, dict[str, Any]] = {kind: {} for kind in OTHER_KINDS}
    keys["separate"] = {"ref_model": str(other)}
    keys["merged"] = keys["continued"] = {"adapter_name_or_path": str(two / "lora")}
    found = trained(model, tmp_path / "two", {kind: {**FSDP, **keys[kind]} for kind in OTHER_KINDS}, 2)
    for kind in OTHER_KINDS:
        one = alone(model, tmp_path / kind, kind, **keys[kind])
        assert distance(one, found / kind) < ROUNDING, kind
        assert run_json(found / kind)["model"] == run_json(one)["model"], "equal weights have the same hash"


@pytest.mark.slow
def test_bf16_shards_and_offloaded_shards_train_as_one_process(model: Path, tmp_path: Path) -> None:
    """Frozen weights have 16 bits then; sums in another order and other kernels leave differences of rounding."""
    runs = {"full": FSDP, "lora": FSDP, "last layer": FSDP, "full-offloaded": OFFLOADED}
    two = trained(model, tmp_path / "two", {name: {**keys, "precision": "bf16"} for name, keys in runs.items()}, 2)
    start = weights(model)
    ones = {kind: alone(model, tmp_path / kind, kind, precision="bf16") for kind in runs if "-" not in kind}
    for name in runs:
        one = ones[name.partition("-")[0]]
        mine, theirs = (change(start, folder) for folder in (one, two / name))
        assert float(torch.cosine_similarity(mine, theirs, dim=0)) > 0.99, name
        for ours, others in zip(metrics(one), metrics(two / name), strict=True):
            assert others["loss"] == pytest.approx(ours["loss"], abs=0.02), name


def change(start: dict[str, torch.Tensor], folder: Path) -> torch.Tensor:
    """All weights of a folder, less those at the start, as one vector; an adapter's B starts at 0."""
    found = weights(folder)
    return torch.cat([(found[name] - start.get(name, 0)).float().flatten() for name in sorted(found)])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_a_sharded_run_resumes_in_two_and_four_processes(
    model: Path, tmp_path: Path, processes: int, two: Path
) -> None:
    runs = {kind: {**FSDP, "resume_from_checkpoint": str(two / kind / "checkpoint-3")} for kind in ("full", "lora")}
    again = trained(model, tmp_path / "again", runs, processes)
    assert all(distance(two / kind, again / kind) < ROUNDING for kind in runs)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [{}, FSDP], ids=["ddp", "fsdp2"])
def test_four_processes_of_which_some_have_no_rows(model: Path, tmp_path: Path, sharding: dict[str, Any]) -> None:
    """Five rows in steps of four: in the second one, three ranks repeat rows that do not count."""
    rows = {"rows": 5}
    four = trained(model, tmp_path / "four", {kind: {**sharding, **rows} for kind in ("full", "lora")}, 4)
    for kind in ("full", "lora"):
        one = alone(model, tmp_path / f"one-{kind}", kind, **rows)
        assert distance(one, four / kind) < ROUNDING
        assert [row["step"] for row in metrics(four / kind)] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [{}, FSDP], ids=["ddp", "fsdp2"])
def test_a_rank_is_killed_and_the_run_resumes(model: Path, tmp_path: Path, sharding: dict[str, Any], two: Path) -> None:
    kind = "full"
    expected = two / kind  # equal to DDP's up to rounding, as above
    folder = tmp_path / "killed"
    begun = given(model, folder, kind, 2, **sharding)
    how = {**command(), "args": [*TORCHRUN, str(SCRIPT), str(config_file(tmp_path / "begun.json", begun))]}
    how["env"]["KILLED"] = "1:5"
    assert subprocess.run(**how, timeout=900, check=False).returncode != 0
    assert [path.name for path in sorted(folder.glob("checkpoint-*"))] == ["checkpoint-3"]
    assert not (folder / "model.safetensors").exists()
    again = given(model, folder, kind, 2, **sharding, resume_from_checkpoint=True)
    train_several([config_file(tmp_path / "again.json", again)], 2, "sharded")
    assert run_json(folder)["status"] == "completed"
    assert distance(expected, folder) < ROUNDING
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_a_run_resumes_in_another_number_of_processes(
    model: Path, tmp_path: Path, before: int, after: int, two: Path
) -> None:
    kind = "full"

    def run(folder: Path, processes: int, **changed: Any) -> Path:
        if processes == 1:
            return alone(model, folder / kind, kind, **changed)
        return trained(model, folder, {kind: changed}, processes) / kind

    (tmp_path / "first").mkdir()
    first = run(tmp_path / "first", before)
    (tmp_path / "second").mkdir()
    second = run(tmp_path / "second", after, resume_from_checkpoint=str(first / "checkpoint-3"))
    assert distance(two / kind, second) < ROUNDING
