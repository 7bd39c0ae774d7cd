"""The models of a benchmark, before any of them is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ConfigError, UsageError
from palate.evaluation.benchmarks.benchmark import BenchmarkFacts
from palate.evaluation.benchmarks.contestants import contestants
from tiny import save_tiny

TASK = BenchmarkFacts("task", "Task", "", ("policy",), (), {}, ())


def test_a_model_without_a_chat_template_is_refused_unless_none_is_needed(tmp_path: Path) -> None:
    plain = str(save_tiny(tmp_path / "plain", template=False))
    with pytest.raises(ConfigError, match="has no chat template"):
        contestants([plain], TASK)
    [one] = contestants([plain], TASK, templates=False)
    assert (one.name, one.kind) == ("plain", "policy")


def test_a_model_of_another_kind_is_named_before_its_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a judge; Task measures a policy"):
        contestants([str(save_tiny(tmp_path / "plain", template=False)), "openai:m"], TASK)
