"""The config of a gate: what is refused, what is hashed, and whether the computed chances are those of the guards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.loop.gate.config import GateFields, GuardFields, chances, gate_hash, load_gate_config
from palate.stats import paired_difference

MINIMAL = "prompts: p.jsonl\njudge: j\n"
GUARDS = "guards:\n  - {{metric: truthfulqa/mc1, margin: {}, n: 817, discordant: 0.1}}\n"


def loaded(tmp_path: Path, text: str) -> GateFields:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return load_gate_config(path)


def test_defaults_are_those_of_the_page(tmp_path: Path) -> None:
    found = loaded(tmp_path, MINIMAL + GUARDS.format(0.03))
    assert (found.n, found.mode, found.alpha, found.threshold) == (400, "superiority", 0.05, 0.5)
    # 2.486475 · 0.42 / 20
    assert chances(found, 0.05) == pytest.approx({"smallest gain": 0.05222, "truthfulqa/mc1": 0.857}, abs=1e-3)
    assert loaded(tmp_path, MINIMAL + "mode: noninferior\n").threshold == pytest.approx(0.47)


def test_a_guard_that_equal_models_rarely_pass_is_refused_with_the_probability(tmp_path: Path) -> None:
    message = r"an equal model would pass truthfulqa/mc1 in 56 % of gates, below 80 %; raise its margin of 0.02"
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, MINIMAL + GUARDS.format(0.02))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("n: 80\n", "n must be at least 100"),
        ("alpha: 0.5\n", "alpha must be at most 0.2"),
        ("mod: superiority\n", "mod is not a known key"),
        ("mode: better\n", "mode must be superiority or noninferior"),
        ("length_ratio: [1.2, 0.9]\n", "length_ratio must be two numbers above 0"),
        ("guards: [{metric: a/b, margin: 0.1, n: 50}]\n", "a/b needs discordant"),
        ("guards: [{metric: a/b, margin: 1, n: 50, sd: 1}, {metric: a/b, margin: 1, n: 50, sd: 1}]\n", "twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, MINIMAL + more)


def test_any_change_changes_the_hash(tmp_path: Path) -> None:
    one = loaded(tmp_path, MINIMAL)
    same = loaded(tmp_path, "judge: j\nprompts: p.jsonl\nn: 400\n")
    other = loaded(tmp_path, MINIMAL + "alpha: 0.04\n")
    hashes = [gate_hash(config, prompts) for config, prompts in ((one, "a"), (same, "a"), (other, "a"), (one, "b"))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(
    ("n", "margin", "spread"),
    [(817, 0.03, {"discordant": 0.1}), (250, 0.04, {"discordant": 0.06}), (80, 0.4, {"sd": 1.2})],
    ids=["TruthfulQA", "over-refusal", "MT-Bench"],
)
def test_the_computed_chance_is_that_of_equal_models(n: int, margin: float, spread: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    passed, rounds = 0, 800
    for _ in range(rounds):
        if "sd" in spread:
            before = rng.normal(6, 2, n)
            after = before + rng.normal(0, spread["sd"], n)
        else:
            half = spread["discordant"] / 2
            cell = rng.choice(4, n, p=[0.5, half, half, 0.5 - 2 * half])
            before, after = np.isin(cell, (0, 1)).astype(float), np.isin(cell, (0, 2)).astype(float)
        passed += paired_difference(before, after, level=0.9, resample=False).difference.low > -margin
    expected = GuardFields(metric="m", margin=margin, n=n, **spread).pass_probability(0.05)
    assert passed / rounds == pytest.approx(expected, abs=0.05)


def test_every_key_is_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "gate.md").read_text(encoding="utf-8")
    keys = [*GateFields.model_fields, *GuardFields.model_fields]
    assert [key for key in keys if f"| `{key}` |" not in page and key != "guards"] == []


def test_the_config_of_the_page_is_accepted(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "gate.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml [^\n]*\n(.*?)```", page, re.DOTALL)
    assert next(guard.metric for guard in loaded(tmp_path, example).guards) == "truthfulqa/mc1"
