"""Golden values through the config: the loss in metrics.jsonl is the formula of the log-probabilities beside it.

One pair a step, so that the logged means are the pair's own values. Formulas are NUMERICS', written out once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.config.objectives.lookup import OBJECTIVES
from palate.training.setup.session import prepare
from runs import config, metrics, run

BETA = 0.3


def ls(x: float) -> float:
    """log σ."""
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def σ(x: float) -> float:
    return math.exp(ls(x))


def logit(v: float) -> float:
    return v - math.log1p(-math.exp(v))


# name → (options, loss of (Δc, Δr, a, b, nc, nr))
Formula = Callable[[float, float, float, float, int, int], float]
GOLDEN: dict[str, tuple[dict[str, Any], Formula]] = {
    "sigmoid": (
        {"dpo_label_smoothing": 0.1},
        lambda c, r, a, b, n, m: -0.9 * ls(BETA * (c - r)) - 0.1 * ls(-BETA * (c - r)),
    ),
    "robust": (
        {"dpo_label_smoothing": 0.1},
        lambda c, r, a, b, n, m: (-0.9 * ls(BETA * (c - r)) + 0.1 * ls(-BETA * (c - r))) / 0.8,
    ),
    "hinge": ({}, lambda c, r, a, b, n, m: max(0.0, 1 - BETA * (c - r))),
    "ipo": ({}, lambda c, r, a, b, n, m: (c / n - r / m - 1 / (2 * BETA)) ** 2),
    "sigmoid_norm": ({}, lambda c, r, a, b, n, m: -ls(BETA * (c / n - r / m))),
    "exo_pair": (
        {"dpo_label_smoothing": 0.2},
        lambda c, r, a, b, n, m: (
            σ(BETA * (c - r)) * (ls(BETA * (c - r)) - math.log(0.8))
            + σ(-BETA * (c - r)) * (ls(-BETA * (c - r)) - math.log(0.2))
        ),
    ),
    "nca_pair": ({}, lambda c, r, a, b, n, m: -ls(BETA * c) - 0.5 * ls(-BETA * c) - 0.5 * ls(-BETA * r)),
    "sppo_hard": ({}, lambda c, r, a, b, n, m: (c - 0.5 / BETA) ** 2 + (r + 0.5 / BETA) ** 2),
    "aot": ({}, lambda c, r, a, b, n, m: -ls(BETA * (c - r))),
    "aot_unpaired": ({}, lambda c, r, a, b, n, m: -ls(BETA * (c - r))),
    "apo_zero": ({}, lambda c, r, a, b, n, m: 1 - σ(BETA * c) + σ(BETA * r)),
    "apo_down": ({}, lambda c, r, a, b, n, m: σ(BETA * c) + 1 - σ(BETA * (c - r))),
    "discopop": (
        {"discopop_tau": 0.5},
        lambda c, r, a, b, n, m: (
            σ(BETA * (c - r) / 0.5) * math.exp(-BETA * (c - r)) + (1 - σ(BETA * (c - r) / 0.5)) * -ls(BETA * (c - r))
        ),
    ),
    "dpop": ({"dpop_lambda": 5.0}, lambda c, r, a, b, n, m: -ls(BETA * (c - r - 5.0 * max(0.0, -c)))),
    "r_dpo": ({"rdpo_alpha": 0.1}, lambda c, r, a, b, n, m: -ls(BETA * (c - r) + 0.1 * (n - m))),
    "kto_pair": (
        {},
        lambda c, r, a, b, n, m: (
            0.5 * (1 - σ(BETA * c - max(0.0, BETA * r))) + 0.5 * (1 - σ(max(0.0, BETA * c) - BETA * r))
        ),
    ),
    "simpo": ({"simpo_gamma": 0.4}, lambda c, r, a, b, n, m: -ls(BETA * (a / n - b / m) - 0.4)),
    "orpo": (
        {"pref_beta": None, "orpo_lambda": 0.5},
        lambda c, r, a, b, n, m: -a / n - 0.5 * ls(logit(a / n) - logit(b / m)),
    ),
    "cpo": ({"cpo_alpha": 0.7}, lambda c, r, a, b, n, m: -ls(BETA * (a - b)) - 0.7 * a / n),
    "plackett_luce": ({}, lambda c, r, a, b, n, m: -ls(BETA * (c - r))),
    "rrhf": ({"pref_beta": None}, lambda c, r, a, b, n, m: max(0.0, b / m - a / n) - a / n),
}


def history(model: Path, folder: Path, name: Any, **options: Any) -> tuple[list[dict[str, float]], int, int]:
    """Four steps on one pair, and how many tokens of chosen and rejected are trained."""
    changed = {"pref_loss": name, "pref_beta": BETA, "rows": 1, "num_train_epochs": 4, **options}
    [group] = prepare(config(model, folder.parent / "look", **changed)).data.train
    run(model, folder, **changed)
    chosen, rejected = (int(one.trained.sum()) for one in group.completions)
    return metrics(folder), chosen, rejected


def values(row: dict[str, float]) -> tuple[float, float, float, float]:
    """Δc, Δr, a, b."""
    a, b = row["logps/chosen"], row["logps/rejected"]
    return a - row.get("ref_logps/chosen", 0.0), b - row.get("ref_logps/rejected", 0.0), a, b


@pytest.mark.parametrize("name", GOLDEN)
def test_the_loss_is_the_formula_of_the_logged_values(model: Path, tmp_path: Path, name: str) -> None:
    options, formula = GOLDEN[name]
    rows, chosen, rejected = history(model, tmp_path / "run", name, **options)
    assert len({row["loss"] for row in rows}) > 1
    for row in rows:
        expected = formula(*values(row), chosen, rejected)
        assert row["loss"] == pytest.approx(expected, rel=2e-5, abs=1e-5), row["step"]


def test_bco_shifts_by_the_mean_of_all_steps_so_far(model: Path, tmp_path: Path) -> None:
    rows, _, _ = history(model, tmp_path / "run", "bco_pair")
    seen: list[float] = []
    for row in rows:
        c, r, _, _ = values(row)
        seen += [BETA * c, BETA * r]
        delta = sum(seen) / len(seen)
        assert row["loss"] == pytest.approx(-ls(BETA * c - delta) - ls(delta - BETA * r), rel=1e-5, abs=1e-5)


def test_a_mixture_is_the_weighted_sum(model: Path, tmp_path: Path) -> None:
    rows, n, m = history(model, tmp_path / "run", {"hinge": 0.25, "apo_zero": 2.0}, pref_ftx=0.3)
    assert rows[0]["loss"] == pytest.approx(2.25 - 0.3 * rows[0]["logps/chosen"] / n, rel=1e-5)
    for row in rows:
        c, r, a, b = values(row)
        parts = (0.25 * GOLDEN["hinge"][1](c, r, a, b, n, m), 2.0 * GOLDEN["apo_zero"][1](c, r, a, b, n, m))
        assert row["loss"] == pytest.approx(sum(parts) - 0.3 * a / n, rel=1e-5, abs=1e-5)


def test_every_objective_on_pairs_and_rankings_has_its_golden_values() -> None:
    """bco_pair stands above; those on dimensions are in test_multi.py."""
    families = {name for name, row in OBJECTIVES.items() if row.family in ("paired", "ranked")}
    assert families - {"bco_pair", "multi_soft", "multi_margin"} == set(GOLDEN)
