"""Runs, their checkpoints and bare models as points of a frontier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from palate.errors import ArtifactError, UsageError
from palate.evaluation.frontier import frontier_models
from palate.evaluation.subject import Subject, is_checkpoint, model_spec, read_run
from palate.models.precision import FP32
from runs import run
from tiny import save_tiny

SAVES = {"rows": 12, "max_steps": 3, "learning_rate": 2e-2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def full(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "full"
    run(model, folder, **SAVES, save_total_limit=9)
    return folder


@pytest.fixture(scope="module")
def lora(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "lora"
    run(model, folder, **SAVES, finetuning_type="lora", save_total_limit=9)
    return folder


def identity(name: Path) -> str | None:
    return Subject(model_spec(str(name)), FP32, torch.device("cpu")).identity


def test_checkpoints_come_in_order_of_steps_and_the_last_is_the_end(full: Path, lora: Path) -> None:
    for folder in (full, lora):
        points, reference = frontier_models([str(folder)], with_checkpoints=True)
        names = [f"{folder.name}/checkpoint-1", f"{folder.name}/checkpoint-2", folder.name]
        assert [point.name for point in points] == names
        assert [point.step for point in points] == [1, 2, 3]
        assert {point.group for point in points} == {folder.name}
        assert {point.method for point in points} == {"dpo sigmoid"}
        assert reference == read_run(folder).reference


def test_an_unfinished_checkpoint_is_no_point(full: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    shutil.copytree(full, folder)
    (folder / "checkpoint-2" / "complete.json").unlink()
    points, _ = frontier_models([str(folder)], with_checkpoints=True)
    assert [point.step for point in points] == [1, 3]
    with pytest.raises(ArtifactError, match=r"checkpoint-2: complete.json is missing"):
        frontier_models([str(folder / "checkpoint-2")])


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_checkpoint_alone_is_a_model(kind: str, full: Path, lora: Path, model: Path, tmp_path: Path) -> None:
    """Also of a run that goes on."""
    folder = tmp_path / kind
    shutil.copytree({"full": full, "lora": lora}[kind], folder)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    with pytest.raises(ArtifactError, match="the run is running"):
        frontier_models([str(folder)])
    points, reference = frontier_models([str(folder / "checkpoint-1")])
    assert [(point.name, point.step) for point in points] == [(f"{kind}/checkpoint-1", 1)]
    assert reference.model == str(model)
    hashes = [identity(folder / f"checkpoint-{step}") for step in (1, 2, 3)]
    assert len({*hashes, identity(model)}) == 4
    assert hashes[2] == identity({"full": full, "lora": lora}[kind])


def test_an_untied_head_comes_back_as_it_was_trained(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "freeze"
    run(model, folder, **SAVES, finetuning_type="freeze", freeze_trainable_layers=1, freeze_extra_modules=["lm_head"])
    subject = Subject(model_spec(str(folder / "checkpoint-2")), FP32, torch.device("cpu"))
    head, embedding = subject.model.get_output_embeddings().weight, subject.model.get_input_embeddings().weight  # type: ignore[operator]
    assert not torch.equal(head, embedding)
    assert identity(folder / "checkpoint-3") == identity(folder)


def test_runs_with_different_references_need_one_by_name(full: Path, model: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=3)
    run(other, tmp_path / "second", rows=8, max_steps=1)
    both = [str(full), str(tmp_path / "second")]
    with pytest.raises(UsageError, match=r"was trained against .*; name one with --reference"):
        frontier_models(both)
    points, reference = frontier_models(both, reference=str(model))
    assert [point.name for point in points] == ["full", "second"]
    assert reference.model == str(model)


def test_what_makes_no_frontier(full: Path, finished: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without a run there is no known reference"):
        frontier_models([str(model)])
    with pytest.raises(UsageError, match="no run is named"):
        frontier_models([str(model)], reference=str(model), with_checkpoints=True)
    with pytest.raises(UsageError, match="holds no complete checkpoint"):
        frontier_models([str(finished)], with_checkpoints=True)
    run(model, tmp_path / "rm", stage="rm", rows=8, max_steps=1)
    with pytest.raises(UsageError, match="is a reward model, which answers nothing; name it with --reward"):
        frontier_models([str(full), str(tmp_path / "rm")])
    assert is_checkpoint(full / "checkpoint-1")
    assert not is_checkpoint(full)


def test_a_run_is_the_same_however_its_folder_is_written(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(full.parent)
    points, _ = frontier_models([full.name, str(full)])
    assert [point.name for point in points] == ["full", "full"]  # which measure_frontier refuses
