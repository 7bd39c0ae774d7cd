"""`import palate`: quick, without torch, and every public name is there."""

from __future__ import annotations

import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import palate


def test_importing_palate_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, palate\n"
        "heavy = {'torch', 'transformers', 'datasets', 'scipy', 'numpy', 'pydantic', 'openai'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Processor time: unlike the clock, the same on a busy machine.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


@pytest.mark.parametrize(
    "package",
    ["config", "records", "errors", "data", "stats", "artifacts", "store", "feedback", "registry", "loop", "web"],
)
def test_no_module_of_these_packages_loads_torch(package: str) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"root = importlib.import_module('palate.{package}')\n"
        f"for module in pkgutil.walk_packages(getattr(root, '__path__', []), 'palate.{package}.'):\n"
        "    if '.migrations.' not in module.name: importlib.import_module(module.name)\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", palate.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(palate, name) is not None
    assert name in dir(palate)


def test_load_preferences_gives_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "p", "chosen": "yes", "rejected": "no"}\n', encoding="utf-8")
    (pair,) = palate.load_preferences(str(path)).records
    assert isinstance(pair, palate.PreferencePair)
    assert (pair.chosen[-1].content, pair.rejected[-1].content) == ("yes", "no")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = palate.trian


def test_the_version_is_that_of_the_package(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert palate.__version__ == project["version"]
