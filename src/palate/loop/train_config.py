"""The training config of a loop: what a cycle sets in it, and what it must not have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.artifacts import read_json
from palate.config.load import load_config
from palate.config.pipeline import is_pipeline, load_pipeline
from palate.config.run import RunConfig
from palate.config.stages.model import merged_adapters
from palate.config.sweep import is_sweep
from palate.errors import ConfigError
from palate.registry.versions import Version


def overrides(incumbent: Version, datasets: Sequence[Path], output: Path) -> dict[str, Any]:
    """The keys that make a run start from the incumbent, compare with it, and train on the cycle's pairs."""
    model, adapters = str(incumbent.folder), None
    if incumbent.kind == "adapter":
        model, adapters = incumbent.lineage["base"]["model"], [*_merged(incumbent.folder), str(incumbent.folder)]
    return {
        "model_name_or_path": model,
        "adapter_name_or_path": adapters,
        "ref_model": None,
        "dataset": [str(path) for path in datasets],
        "output_dir": str(output),
        "resume_from_checkpoint": True,
    }


def assignments(values: Mapping[str, Any]) -> list[str]:
    """The `key=value` of these keys, as `--set` takes them."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def runs_of(config: Path, values: Mapping[str, Any]) -> list[RunConfig]:
    """The configs of a run, or of the runs of a pipeline, in order.

    Raises:
        ConfigError: a key is wrong, or the file is a sweep.
    """
    changes = assignments(values)
    if is_sweep(config, changes):
        raise ConfigError(f"{config}: a sweep makes several models, and a cycle needs one; name a run or a pipeline")
    if is_pipeline(config, changes):
        return [planned.config for planned in load_pipeline(config, changes).runs]
    return [load_config(config, changes).config]


def check_train_config(config: Path, values: Mapping[str, Any]) -> None:
    """Check a config with a cycle's overrides.

    Raises:
        ConfigError: a key is wrong, or a run of its own model or data would not learn from the cycle.
    """
    runs = runs_of(config, values)
    if runs[0].model_name_or_path != values["model_name_or_path"]:
        raise ConfigError(f"{config}: its first run has a model of its own; leave it out, it starts from the incumbent")
    if not any(_names(run.dataset) == values["dataset"] for run in runs):
        raise ConfigError(f"{config}: every run has data of its own; leave `dataset` out of one, it gets the pairs")
    if runs[-1].stage == "rm":
        raise ConfigError(f"{config}: trains a reward model, which cannot be served; name a config of a policy")


def trains_on_thumbs(config: Path) -> bool:
    """Whether the config is of KTO, which learns from labels of single answers."""
    set_by_a_cycle = {"model_name_or_path": "incumbent", "dataset": "pairs", "output_dir": "train"}
    return [run.stage for run in runs_of(config, set_by_a_cycle)] == ["kto"]


def model_folder(config: Path, values: Mapping[str, Any]) -> Path:
    """Where the trained policy is."""
    return Path([run for run in runs_of(config, values) if run.stage != "rm"][-1].output_dir)


def is_completed(run: Path) -> bool:
    """Whether a run has ended well."""
    return (run / "run.json").is_file() and read_json(run / "run.json").get("status") == "completed"


def _names(dataset: Any) -> list[str]:
    return [dataset] if isinstance(dataset, str) else list(dataset or ())


def _merged(folder: Path) -> list[str]:
    """The adapters that were merged into the base before the adapter in a folder was trained."""
    if not (folder / "run.json").is_file():
        return []
    return list(merged_adapters(read_json(folder / "run.json")["config"]))
