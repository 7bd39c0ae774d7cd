"""The config's table and the functions agree, and every declared option does what it says: change the loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from palate.config.objectives.lookup import OBJECTIVES, OPTIONS, Objective, resolve_options
from palate.errors import ConfigError
from palate.objectives import (
    PAIRED,
    RANKED,
    REWARD,
    UNPAIRED,
    Modifiers,
    PairLogps,
    RankedLogps,
    Term,
    UnpairedLogps,
    paired_loss,
    ranked_loss,
    unpaired_loss,
)
from palate.objectives.modifiers import length_discount, sum_by_completion, wpo_weights

FUNCTIONS: Mapping[str, Mapping[str, Callable[..., torch.Tensor]]] = {
    "paired": PAIRED,
    "ranked": RANKED,
    "unpaired": UNPAIRED,
    "reward": REWARD,
}
NEEDED: dict[str, dict[str, Any]] = {
    "multi_soft": {"dimension_weights": {"helpful": 0.5, "safe": 0.3, "brief": 0.2}},
    "multi_margin": {"dimension_weights": {"helpful": 0.5, "safe": 0.3, "brief": 0.2}, "dimension": "helpful"},
}
# Another allowed value of each option, and what must be set beside it.
OTHER: dict[str, dict[str, Any]] = {
    "pref_beta": {"pref_beta": 0.37},
    "dpo_label_smoothing": {"dpo_label_smoothing": 0.2},
    "simpo_gamma": {"simpo_gamma": 0.4},
    "ipo_logps": {"ipo_logps": "sum"},
    "dpop_lambda": {"dpop_lambda": 3.0},
    "rdpo_alpha": {"rdpo_alpha": 0.2},
    "cpo_alpha": {"cpo_alpha": 0.3},
    "orpo_lambda": {"orpo_lambda": 0.7},
    "discopop_tau": {"discopop_tau": 0.5},
    "kto_chosen_weight": {"kto_chosen_weight": 1.3},
    "kto_rejected_weight": {"kto_rejected_weight": 1.3},
    "dimension_weights": {"dimension_weights": {"helpful": 0.2, "safe": 0.2, "brief": 0.6}},
    "dimension_temperature": {"dimension_temperature": 2.0},
    "dimension": {"dimension": "safe"},
    "center_rewards_coefficient": {"center_rewards_coefficient": 0.01},
    "pref_ftx": {"pref_ftx": 0.2},
    "kl_coef": {"kl_coef": 0.01},
    "pref_bco_weight": {"pref_bco_weight": 0.5},
    "f_divergence_type": {"f_divergence_type": "js"},
    "f_alpha_divergence_coef": {"f_divergence_type": "alpha", "f_alpha_divergence_coef": 0.2},
    "ld_alpha": {"ld_alpha": 0.5},
    "use_weighting": {"use_weighting": True},
}


def loss_of(name: str, given: Mapping[str, Any], *, at_start: bool = False) -> torch.Tensor:
    """The losses of four random examples by the config's names: a method in miniature."""
    row = OBJECTIVES[name]
    options = resolve_options(name, {**NEEDED.get(name, {}), **given})
    function, arguments = FUNCTIONS[row.family][name], row.arguments(options)
    generator = torch.Generator().manual_seed(3)
    if row.family == "reward":
        rewards, present = torch.randn(4, 2, generator=generator), torch.ones(4, 2, dtype=torch.bool)
        inputs = {
            "bradley_terry": (rewards[:, 0], rewards[:, 1]),
            "reward_plackett_luce": (rewards, present),
            "reward_regression": (rewards[:, 0], torch.rand(4, generator=generator)),
        }
        return function(*inputs[name], **arguments)
    tokens = torch.tensor([4, 7, 5, 5, 9, 2, 3, 6])
    owner = torch.repeat_interleave(torch.arange(8), tokens)
    count = int(tokens.sum())
    reference = -0.5 - torch.rand(count, generator=generator)
    noise = 0.6 * torch.randn(count, generator=generator)
    policy = reference.clone() if at_start else (reference + noise).clamp(max=-0.05)
    modifiers = Modifiers(**row.modifier_arguments(options))
    term = Term(function, arguments)
    sums, ref_sums = (sum_by_completion(values, owner, 8) for values in (policy, reference))
    if row.family == "ranked":
        ranking_of = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3] if at_start else [0, 0, 0, 1, 1, 2, 2, 2])
        return ranked_loss(RankedLogps.from_flat(sums, tokens, ranking_of, ref_sums), term, modifiers)
    if row.family == "unpaired":
        desirable = torch.tensor([True, False] * 4)
        shift = 0.0 if at_start else 0.7
        return unpaired_loss(
            UnpairedLogps(sums, ref_sums, tokens, desirable, ref_sums + shift, ref_sums), term, modifiers
        )
    scores = torch.randint(1, 6, (8, 3), generator=generator).float()

    def pairs(values: torch.Tensor, ref_values: torch.Tensor) -> PairLogps:
        return PairLogps(
            *(values[0::2], values[1::2], tokens[0::2], tokens[1::2], ref_values[0::2], ref_values[1::2]),
            chosen_scores=scores[0::2],
            rejected_scores=scores[1::2],
        )

    partner = tokens.view(4, 2).flip(1).reshape(8)
    tail = length_discount(owner, tokens, partner, alpha=modifiers.ld_alpha)
    weights = wpo_weights(policy, torch.full_like(policy, -0.4), owner, tokens)
    return paired_loss(
        pairs(sums, ref_sums),
        [term],
        modifiers,
        discounted=pairs(sum_by_completion(policy * tail, owner, 8), sum_by_completion(reference * tail, owner, 8)),
        weights=weights[0::2] * weights[1::2],
    )


def test_table_and_functions_name_the_same_objectives() -> None:
    named = {(row.family, row.name) for row in OBJECTIVES.values()}
    assert named == {(family, name) for family, table in FUNCTIONS.items() for name in table}


@pytest.mark.parametrize("row", OBJECTIVES.values(), ids=lambda row: row.name)
def test_keyword_options_of_the_function_are_the_tables(row: Objective) -> None:
    parameters = inspect.signature(FUNCTIONS[row.family][row.name]).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    inputs = {keywords.pop(name) for name in row.inputs}
    assert inputs <= {None}  # what the caller brings may be absent
    assert set(keywords) == {option.argument for option in row.options.values()}
    for option in row.options.values():
        # A default in the signature is the table's; β has none there, since the objectives differ in it.
        assert keywords[option.argument] in (inspect.Parameter.empty, option.default)


@pytest.mark.parametrize("key", OPTIONS)
def test_modifiers_are_the_fields_of_modifiers(key: str) -> None:
    users = [row for row in OBJECTIVES.values() if key in row.modifiers]
    fields = Modifiers.__dataclass_fields__
    assert bool(users) == (OPTIONS[key].argument in fields)
    if users:
        assert fields[OPTIONS[key].argument].default == OPTIONS[key].default


@pytest.mark.parametrize(("name", "key"), [(row.name, key) for row in OBJECTIVES.values() for key in row.all_options])
def test_each_declared_option_changes_the_loss(name: str, key: str) -> None:
    beside = {k: v for k, v in OTHER[key].items() if k != key}
    before, after = loss_of(name, beside), loss_of(name, OTHER[key])
    assert torch.isfinite(before).all()
    assert torch.isfinite(after).all()
    assert (before - after).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (row.name, key)
        for row in OBJECTIVES.values()
        for key in OPTIONS
        if key not in row.all_options and (row.name, key) != ("orpo", "pref_beta")
    ],
)
def test_each_undeclared_option_is_refused_by_name(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: .* has no effect on pref_loss: {name};"):
        resolve_options(name, {**NEEDED.get(name, {}), key: OTHER[key][key]})


@pytest.mark.parametrize("row", OBJECTIVES.values(), ids=lambda row: row.name)
def test_loss_at_step_0_is_the_known_value(row: Objective) -> None:
    for given in ({}, {"pref_beta": 0.4}, {"pref_bco_weight": 0.5}, {"f_divergence_type": "js"}, {"pref_ftx": 0.1}):
        if set(given) <= set(row.all_options):
            known = row.loss_at_start(resolve_options(row.name, {**NEEDED.get(row.name, {}), **given}))
            losses = loss_of(row.name, given, at_start=True)
            if known is not None:
                torch.testing.assert_close(losses, torch.full_like(losses, known))
            else:
                assert losses.std() > 0  # it is the data that decide


def test_known_values_at_step_0() -> None:
    """The values that people know, as numbers."""
    log2 = 0.6931471805599453
    known = {
        **dict.fromkeys(("sigmoid", "robust", "sigmoid_norm", "dpop", "aot", "aot_unpaired", "plackett_luce"), log2),
        **dict.fromkeys(("hinge", "apo_zero", "apo_down"), 1.0),
        **dict.fromkeys(("nca_pair", "bco_pair"), 2 * log2),
        **dict.fromkeys(("kto", "kto_pair"), 0.5),
        "ipo": 25.0,
        "simpo": None,
    }
    for name, value in known.items():
        assert OBJECTIVES[name].loss_at_start(resolve_options(name, {})) == (
            None if value is None else pytest.approx(value)
        )
    assert OBJECTIVES["plackett_luce"].loss_at_start({}, completions=4) == pytest.approx(3.1780538)  # ln 4!
