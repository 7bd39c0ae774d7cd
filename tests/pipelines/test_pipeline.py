"""Pipelines that run: chained, measured, and the same after kill -9."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json, read_jsonl
from palate.config.pipeline import load_pipeline
from palate.errors import ArtifactError
from palate.pipelines.pipeline import PipelineResult, run_pipeline
from runs import command, config_file, distance, pairs, palate, run_json, write_rows

SCORES = """
def share_of_e(prompts, completions):
    return [10 * text.count("e") / max(1, len(text)) for text in completions]

def share_of_letters(prompts, completions):
    return [sum("a" <= c <= "z" for c in text) / max(1, len(text)) for text in completions]
"""


def given(model: Path, folder: Path, **changed: Any) -> dict[str, Any]:
    """Keys of a pipeline on eight pairs, two of them held out where a run evaluates."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "pairs.jsonl", pairs(8))
    write_rows(folder / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(8)])
    (folder / "scores.py").write_text(SCORES)
    values = {
        "model_name_or_path": str(model),
        "output_dir": str(folder / "out"),
        "dataset": str(folder / "pairs.jsonl"),
        "precision": "fp32",
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "torch_threads": 1,
        "save_steps": 2,
        "drift_samples": 3,
        "drift_max_new_tokens": 6,
        **changed,
    }
    return {key: value for key, value in values.items() if value is not None}


def stages(folder: Path) -> list[dict[str, Any]]:
    dpo = {"stage": "dpo", "val_size": 2, "sample_prompts": 0, "reference_cache": "off"}
    online = {"dataset": str(folder / "prompts.jsonl"), "rewards": f"{folder}/scores.py:share_of_e"}
    return [
        {"stage": "sft"},
        dpo,
        {"stage": "ppo", **online, "max_new_tokens": 6, "cutoff_len": 64, "ppo_epochs": 2, "sample_prompts": 0},
    ]


def run(folder: Path, keys: dict[str, Any]) -> PipelineResult:
    return run_pipeline(load_pipeline(config_file(folder / "p.yaml", keys)))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_stages_run_one_from_the_other_and_drift_is_measured(model: Path, tmp_path: Path, tuning: str) -> None:
    done = run(tmp_path, given(model, tmp_path, stages=stages(tmp_path), finetuning_type=tuning))
    assert [path.name for path in done.runs] == ["1-sft", "2-dpo", "3-ppo"]
    assert all(run_json(path)["status"] == "completed" for path in done.runs)
    written = read_json(tmp_path / "out" / "pipeline.json")
    assert written["status"] == "completed"
    assert list(written["drift"]) == ["1-sft", "2-dpo", "3-ppo"]
    assert written["drift"]["2-dpo"]["accuracy"]["n"] == 2
    kl = [drift["kl"]["estimate"] for drift in written["drift"].values()]
    assert all(abs(value) > 1e-3 for value in kl), "each stage moved away from the first model"
    # The second stage was compared with what it started from: the artifact of the first.
    assert run_json(done.runs[1])["reference"]["identity"] == run_json(done.runs[1])["model"]["identity"]
    assert run_json(done.runs[1])["model"]["identity"] != run_json(done.runs[0])["model"]["identity"]


def test_what_is_finished_is_not_run_again(model: Path, tmp_path: Path) -> None:
    keys = given(model, tmp_path, stages=stages(tmp_path)[:2])
    run(tmp_path, keys)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    run(tmp_path, keys)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} <= {"pipeline.json"}
    keys["stages"][1]["pref_beta"] = 0.5
    with pytest.raises(ArtifactError, match=r"2-dpo: was started with pref_beta: 0\.1.*now says 0\.5"):
        run(tmp_path, keys)
    run(tmp_path, {**keys, "overwrite_output_dir": True})
    assert run_json(tmp_path / "out" / "2-dpo")["config"]["pref_beta"] == 0.5


def test_what_came_from_a_deleted_run_does_not_pass_for_finished(model: Path, tmp_path: Path) -> None:
    keys = given(model, tmp_path, stages=stages(tmp_path)[:2])
    run(tmp_path, keys)
    sft, dpo = (tmp_path / "out" / name for name in ("1-sft", "2-dpo"))
    shutil.rmtree(sft)
    with pytest.raises(ArtifactError, match=r"2-dpo: was made from .*1-sft, which is no longer there"):
        run(tmp_path, keys)
    assert not sft.exists(), "said before anything was made"
    drift = read_json(tmp_path / "out" / "pipeline.json")["drift"]
    shutil.rmtree(dpo)
    keys["stages"][0]["learning_rate"] = 1e-2
    done = run(tmp_path, keys)
    assert all(done.drift[name]["kl"] != drift[name]["kl"] for name in ("1-sft", "2-dpo")), "measured anew"


def test_a_round_goes_on_with_the_judge_it_began_with(model: Path, tmp_path: Path) -> None:
    keys = given(
        model,
        tmp_path,
        **{"stage": "dpo", "rounds": 1, "dataset": None, "prompts": str(tmp_path / "prompts.jsonl")},
        **{"judge": f"{tmp_path}/scores.py:share_of_e", "candidate_max_new_tokens": 4, "sample_prompts": 0},
        **{"drift_samples": 0, "max_steps": 1},
    )
    run(tmp_path, keys)
    for folder in ("nothing", "round-1"):  # finished, and then with its pairs alone
        shutil.rmtree(tmp_path / "out" / folder, ignore_errors=True)
        with pytest.raises(ArtifactError, match=r"round-1-data: was started with judge: .*now says length:longer"):
            run(tmp_path, {**keys, "judge": "length:longer"})
    run(tmp_path, {**keys, "judge": "length:longer", "overwrite_output_dir": True})
    assert read_json(tmp_path / "out" / "round-1-data" / "sampling.json")["judge"] == "length:longer"


def test_a_run_is_no_place_for_a_pipeline(model: Path, tmp_path: Path) -> None:
    keys = given(model, tmp_path, stages=stages(tmp_path)[:1])
    run(tmp_path, keys)
    with pytest.raises(ArtifactError, match="is a run, not a pipeline"):
        run(tmp_path, {**keys, "output_dir": str(tmp_path / "out" / "1-sft")})


def test_rounds_against_the_first_model(model: Path, tmp_path: Path) -> None:
    common = {"stage": "dpo", "rounds": 2, "val_size": 2, "sample_prompts": 0, "reference_cache": "off"}
    first = run(tmp_path / "a", given(model, tmp_path / "a", **common, reference="first"))
    previous = run(tmp_path / "b", given(model, tmp_path / "b", **common))
    start = run_json(first.runs[0])["model"]["identity"]
    assert run_json(first.runs[1])["reference"]["identity"] == start
    assert run_json(previous.runs[1])["reference"]["identity"] != start
    assert distance(first.runs[0], previous.runs[0]) == 0.0
    assert distance(first.runs[1], previous.runs[1]) > 0.0


def test_online_rounds_raise_what_the_judge_likes(model: Path, tmp_path: Path) -> None:
    keys = given(
        model,
        tmp_path,
        stage="dpo",
        rounds=3,
        dataset=None,
        prompts=str(tmp_path / "prompts.jsonl"),
        judge=f"{tmp_path}/scores.py:share_of_letters",
        candidates=8,
        select="all",
        candidate_max_new_tokens=8,
        learning_rate=1e-2,
        pref_beta=0.5,
        per_device_train_batch_size=32,
        sample_prompts=0,
        reference_cache="off",
    )
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{i} what is it"} for i in range(12)])
    done = run(tmp_path, keys)

    def mean_score(number: int) -> float:
        rows = read_jsonl(tmp_path / "out" / f"round-{number}-data" / "candidates.jsonl")
        texts = [one["text"] for row in rows for one in row["completions"]]
        return sum(sum("a" <= c <= "z" for c in text) / max(1, len(text)) for text in texts) / len(texts)

    assert mean_score(3) > mean_score(1) + 0.2
    assert all("kl" in drift for drift in done.drift.values())


def kill_at(path: Path, folder: Path, sign: str) -> None:
    """Run the pipeline as a process, and kill -9 it as soon as something below `folder` matches `sign`."""
    process = subprocess.Popen(**command("train", path))
    end = time.monotonic() + 600
    while not list(folder.glob(sign)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"nothing like {sign}"
        time.sleep(0.005)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_kill_nine_at_any_point_ends_with_the_same_weights(model: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", given(model, tmp_path / "whole", stages=stages(tmp_path / "whole")))
    keys = given(model, tmp_path / "killed", stages=stages(tmp_path / "killed"))
    path, out = config_file(tmp_path / "killed.yaml", keys), tmp_path / "killed" / "out"
    # Within the first write, in the midst of a stage, between two, and in the midst of PPO's steps on one batch.
    for sign in ("1-sft/*", "1-sft/checkpoint-4", "2-dpo/run.json", "3-ppo/checkpoint-2/complete.json"):
        kill_at(path, out, sign)
    done = palate("train", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    assert json.loads(done.stdout)["drift"].keys() == whole.drift.keys()
    for one in whole.runs:
        assert distance(one, out / one.name) == 0.0
