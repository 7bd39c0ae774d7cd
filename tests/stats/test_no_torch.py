"""Statistics, artifacts and the gate start fast: no torch, no transformers, no scipy.stats."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["palate.stats", "palate.artifacts", "palate.loop.gate.evidence"])
def test_nothing_heavy_is_imported(module: str) -> None:
    heavy = ("torch", "transformers", "scipy.stats", "pandas", "matplotlib")
    script = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
