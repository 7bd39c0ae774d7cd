"""What a later run would not find is said before the first one starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.config.pipeline import load_pipeline
from palate.errors import PalateError
from palate.pipelines.pipeline import run_pipeline
from runs import config_file, pairs, write_rows

ROUNDS = {"stage": "dpo", "rounds": 2, "dataset": None}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"stages": [{"stage": "sft"}, {"stage": "dpo", "dataset": "nope.jsonl"}]},
            "2-dpo: dataset 'nope.jsonl'",
        ),
        ({"stages": [{"stage": "sft"}, {"stage": "dpo", "eval_dataset": "nope.jsonl"}]}, "2-dpo: dataset 'nope.jsonl'"),
        ({"stages": [{"stage": "sft"}, {"stage": "ppo", "rewards": "nope.py:f"}]}, "2-ppo: rewards: there is no file"),
        ({**ROUNDS, "prompts": "nope.jsonl", "judge": "length:longer"}, "round-1: dataset 'nope.jsonl' is not there"),
        ({**ROUNDS, "prompts": "pairs.jsonl", "judge": "nope.py:f"}, "round-1: judge: there is no file nope.py"),
        ({"stage": "dpo", "rounds": 1, "drift_prompts": "nope.jsonl"}, "drift_prompts: dataset 'nope.jsonl' is not"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", pairs(4))
    given = {"model_name_or_path": str(model), "output_dir": "out", "dataset": "pairs.jsonl", **changed}
    path = config_file(tmp_path / "p.yaml", {key: value for key, value in given.items() if value is not None})
    with pytest.raises(PalateError) as caught:
        run_pipeline(load_pipeline(path))
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "out").exists()
