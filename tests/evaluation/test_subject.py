"""Where a run's models come from."""

from __future__ import annotations

import json
from pathlib import Path

from palate.config.load import config_from_values
from palate.evaluation.accuracy.rewards import is_reward_model
from palate.evaluation.subject import ModelSpec, read_run
from palate.models.loading.spec import starting_model


def test_a_run_remembers_where_its_base_came_from(tmp_path: Path) -> None:
    """An adapter belongs on the revision that it was trained on, not on whatever the hub has today."""
    config = {"model_name_or_path": "owner/name", "model_revision": "abc", "trust_remote_code": True}
    (tmp_path / "run.json").write_text(json.dumps({"status": "completed", "config": config}))
    (tmp_path / "adapter_config.json").write_text("{}")
    run = read_run(tmp_path)
    assert run.policy.adapters == (str(tmp_path),)
    for spec in (run.policy, run.reference):
        assert (spec.model, spec.revision, spec.trust_remote_code) == ("owner/name", "abc", True)
    (tmp_path / "adapter_config.json").unlink()
    whole = read_run(tmp_path).policy
    assert (whole.model, whole.revision, whole.trust_remote_code) == (str(tmp_path), None, True)


def test_adapters_that_were_merged_come_before_the_runs_own(tmp_path: Path) -> None:
    given = {"stage": "dpo", "model_name_or_path": "base", "dataset": "d.jsonl", "output_dir": str(tmp_path)}
    given |= {"finetuning_type": "lora", "adapter_name_or_path": "a,b"}
    (tmp_path / "adapter_config.json").write_text("{}")
    for new, expected in ((False, ("a", str(tmp_path))), (True, ("a", "b", str(tmp_path)))):
        config = config_from_values({**given, "create_new_adapter": new}).config
        (tmp_path / "run.json").write_text(json.dumps({"status": "completed", "config": config.resolved()}))
        run = read_run(tmp_path)
        assert (run.policy.adapters, run.reference.adapters) == (expected, ("a", "b"))
        assert starting_model(config.resolved()).adapters == ("a", "b")


def test_a_damaged_config_is_left_to_whoever_loads_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": [')
    assert not is_reward_model(ModelSpec("model", str(tmp_path)))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    assert is_reward_model(ModelSpec("model", str(tmp_path)))
