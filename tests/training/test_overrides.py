"""The private Trainer methods in docs/decisions/0005-trainer-overrides.md are all that palate uses, and exist."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from transformers import Trainer

import palate.training
from palate.training.checkpoints.write import CheckpointTrainer
from palate.training.trainer import PalateTrainer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "decisions" / "0005-trainer-overrides.md"
ROW = re.compile(r"^\| `(\w+)` \| (none|`[\w, ]+`) \| .* \| `(test_\w+)` \|$", re.MULTILINE)


def table(section: str) -> dict[str, tuple[list[str], str]]:
    """method → (its arguments, the test that notices a change)."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return {
        name: ([] if arguments == "none" else arguments.strip("`").split(", "), test)
        for name, arguments, test in ROW.findall(text)
    }


def test_the_page_lists_what_is_overridden() -> None:
    own = {name for part in (PalateTrainer, CheckpointTrainer) for name in vars(part) if not name.startswith("__")}
    assert set(table("Overridden")) == own & set(vars(Trainer))


def test_the_page_lists_the_private_methods_that_are_called() -> None:
    private = {name for name in vars(Trainer) if name.startswith("_") and not name.startswith("__")}
    called = {
        node.attr
        for path in Path(palate.training.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in private
    }
    assert called <= {*table("Overridden"), *table("Called")}


@pytest.mark.parametrize("method", [*table("Overridden"), *table("Called")])
def test_the_installed_transformers_has_the_method_with_these_arguments(method: str) -> None:
    arguments, _ = {**table("Overridden"), **table("Called")}[method]
    assert list(inspect.signature(getattr(Trainer, method)).parameters)[1:] == arguments


def test_the_tests_that_the_page_names_exist() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for _, test in (*table("Overridden").values(), *table("Called").values()):
        assert f"def {test}(" in tests, test
