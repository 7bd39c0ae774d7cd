"""A run directory from outside: what a damaged checkpoint, a full disk or a wrong resume leaves, and what is said."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

import chat_templates
from palate.artifacts import checkpoints, read_jsonl, verify_folder
from palate.errors import ArtifactError
from palate.evaluation.subject import read_run
from palate.models.precision import BF16, FP32, resolve
from palate.records import Message
from runs import command, config_file, distance, metrics, pairs, run, run_json, values, weights, write_rows

SHAPE: dict[str, Any] = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(model, folder, **SHAPE, report_to="tensorboard", sample_prompts=2, sample_max_new_tokens=4)
    return folder


def test_a_damaged_newest_checkpoint_is_skipped_and_said(
    model: Path, tmp_path: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    file = folder / "checkpoint-4" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (folder / "checkpoint-3" / "optimizer.pt").unlink()
    run(model, folder, **SHAPE, resume_from_checkpoint=True)
    said = capfd.readouterr().err
    assert "checkpoint-4 is skipped: model.safetensors has changed since it was written" in said
    assert "checkpoint-3 is skipped: optimizer.pt is missing" in said
    assert "resuming from checkpoint-2" in said
    assert distance(folder, finished) == 0.0
    assert metrics(folder) == metrics(finished)


def test_a_checkpoint_without_optimiser_state_is_not_resumed(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", **SHAPE, save_only_model=True)
    with pytest.raises(ArtifactError, match=r"holds the model only .* cannot be resumed"):
        run(model, tmp_path / "run", **SHAPE, resume_from_checkpoint=True)


def test_a_resume_on_other_rows_says_so(
    model: Path, tmp_path: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert len(run_json(folder)["data"]["identity"]) == 16
    run(model, folder, **SHAPE, resume_from_checkpoint=True)
    assert "not the rows that the run began with" not in capfd.readouterr().err
    run(model, folder, **SHAPE, rows=10, resume_from_checkpoint=True)
    assert "not the rows that the run began with" in capfd.readouterr().err


def test_a_resume_against_another_reference_is_refused(model: Path, tmp_path: Path, finished: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(finished, folder)
    shutil.copytree(finished, other)
    with pytest.raises(ArtifactError, match="was started against the reference"):
        run(model, folder, **SHAPE, ref_model=str(other), resume_from_checkpoint=True)


def test_saved_files_follow_the_umask(finished: Path) -> None:
    umask = os.umask(0o077)
    os.umask(umask)
    files = [finished / "model.safetensors", finished / "checkpoint-4" / "model.safetensors"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o666 & ~umask] * 2


def test_transformers_loads_what_a_run_saves(finished: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(finished)
    assert loaded.config.use_cache
    saved = weights(finished)
    assert all((loaded.state_dict()[name] == value).all() for name, value in saved.items())
    assert not list(finished.rglob("training_args.bin"))


def test_the_model_card_says_what_it_is(model: Path, finished: Path) -> None:
    text = (finished / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert "base_model" not in facts  # a local folder is no id of the hub
    assert str(model).replace("_", "\\_") in body
    assert {"palate", "dpo", "sigmoid"} <= set(facts["tags"])
    assert run_json(finished)["model"]["identity"] in body
    assert "| training groups | 8 of 8 prompts |" in body
    assert "| held-out groups | none |" in body


def test_enable_thinking_reaches_the_template_or_is_said_to_have_no_effect(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "plain", max_steps=1, enable_thinking=False)
    notices = run_json(tmp_path / "plain")["notices"]
    assert "enable_thinking has no effect: the chat template does not read it" in notices
    thinker = tmp_path / "thinker"
    shutil.copytree(model, thinker)
    (thinker / "chat_template.jinja").write_text(chat_templates.QWEN3, encoding="utf-8")
    for folder, given in (("off", {"enable_thinking": False}), ("absent", {})):
        run(thinker, tmp_path / folder, max_steps=1, **given)
    asked = [read_run(tmp_path / folder).policy for folder in ("off", "absent")]
    ends = [spec.chat_template(spec.tokenizer()).render((Message("user", "x"),), generation=True) for spec in asked]
    assert [end.endswith("<think>\n\n</think>\n\n") for end in ends] == [True, False]


def test_the_model_card_counts_prompts_beside_groups(model: Path, tmp_path: Path) -> None:
    rows = [{**row, "prompt": f"why {place // 2}"} for place, row in enumerate(pairs(8))]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    folder = tmp_path / "run"
    run(model, folder, dataset=str(data), val_size=2, max_steps=1)
    counted = {name: count for name, count in run_json(folder)["data"].items() if isinstance(count, int)}
    assert counted == {"train_groups": 6, "train_prompts": 3, "eval_groups": 2, "eval_prompts": 1}
    body = (folder / "README.md").read_text(encoding="utf-8")
    assert "| training groups | 6 of 3 prompts |" in body
    assert "| held-out groups | 2 of 1 prompts |" in body


def test_samples_show_policy_and_reference_before_and_after(finished: Path) -> None:
    rows = read_jsonl(finished / "samples.jsonl")
    assert [row["step"] for row in rows] == [0, 0, 4, 4]
    for before, after in zip(rows[:2], rows[2:], strict=True):
        assert before["policy"] == before["reference"] == after["reference"]
        assert before["prompt"] == after["prompt"]
        assert after["prompt"][-1]["role"] == "user"


def test_tensorboard_events_lie_in_runs(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (finished / "runs").rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    margins = [event.value for event in accumulator.Scalars("train/rewards/margins")]
    assert margins == pytest.approx([row["rewards/margins"] for row in metrics(finished)], abs=1e-6)


def test_tensorboard_has_the_last_step(model: Path, tmp_path: Path) -> None:
    """Four steps, logged every three: transformers would leave out the last one."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(model, tmp_path / "run", per_device_train_batch_size=2, logging_steps=3, report_to="tensorboard")
    (events,) = (tmp_path / "run" / "runs").rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("train/rewards/margins")] == [1, 3, 4]


def test_evaluations_log_rows_prompts_and_standard_errors(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", val_size=4, per_device_train_batch_size=2)
    (row,) = metrics(tmp_path / "run", "eval")
    assert (row["rows"], row["prompts"]) == (4, 4)
    assert {"se/loss", "se/rewards/margins", "se/rewards/accuracies"} <= row.keys()
    assert row["se/rewards/margins"] > 0
    assert len(run_json(tmp_path / "run")["data"]["held_out_identity"]) == 16


def test_wandb_works_offline(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run(model, tmp_path / "run", per_device_train_batch_size=8, report_to="wandb", wandb_project="tastes")
    wandb.finish()
    (record,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert record.stat().st_size > 0
    assert run_json(tmp_path / "run")["status"] == "completed"


def full_disk(limit: int) -> None:
    """Files of this process end at `limit` bytes, as they do on a disk without space."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_full_disk_is_one_line_and_leaves_the_earlier_checkpoint(model: Path, tmp_path: Path, finished: Path) -> None:
    """Weights fit into no file: the run goes on from its checkpoint and cannot save what follows."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("checkpoint-3", "checkpoint-4", "*.safetensors"))
    shutil.copytree(finished / "checkpoint-2", folder / "checkpoint-2", dirs_exist_ok=True)
    limit = (finished / "model.safetensors").stat().st_size // 2
    given = values(model, folder, **SHAPE, resume_from_checkpoint=True)
    started = command("train", config_file(tmp_path / "config.json", given))
    done = subprocess.run(**started, timeout=300, check=False, preexec_fn=lambda: full_disk(limit))
    assert done.returncode == 1, done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("palate: error: ")]
    assert len(complaints) == 1
    assert "the disk is full" in complaints[0]
    assert "Traceback" not in done.stderr
    assert run_json(folder)["status"] == "failed"
    assert not list(folder.glob("*.safetensors"))
    assert not list(folder.glob(".model.tmp*"))
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2", "checkpoint-1"]
    assert verify_folder(folder / "checkpoint-2") == []


def test_a_piped_run_says_whole_lines_and_no_progress_bars(model: Path, tmp_path: Path) -> None:
    given = values(model, tmp_path / "run", **SHAPE)
    started = command("train", config_file(tmp_path / "config.json", given), "--json")
    done = subprocess.run(**started, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    assert "Writing model shards" not in done.stderr
    assert "\r" not in done.stderr
    steps = [line for line in done.stderr.splitlines() if re.match(r"train \d+/4 ", line)]
    assert len(steps) == 4
    assert all("left" in line for line in steps[-2:])  # at the end of the line; the first steps are no measure


def test_fp16_on_a_cpu_is_said_and_goes_on() -> None:
    import torch

    found = resolve("fp16", torch.device("cpu"))
    assert found.autocast in (BF16.autocast, FP32.autocast)
    assert "fp16 needs a GPU" in found.notice
    assert found.name in found.notice
