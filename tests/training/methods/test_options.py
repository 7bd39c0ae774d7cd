"""No objective silently ignores an option: every (stage, objective, option), from the config to the loss.

An option either changes the loss that the config's method takes of the same step, or is refused by its name. Stages
that sample are walked in tests/training/test_online_options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from palate.config.load import config_from_values
from palate.config.objectives.lookup import OBJECTIVES, OPTIONS
from palate.config.stages.preference import RewardObjectiveFields
from palate.errors import ConfigError
from palate.models.scoring.logps import Logps, TokenLogps, per_completion
from palate.records import LabelledCompletion, PreferencePair, ScoredCompletion
from palate.text.batch import Batch, pack
from palate.text.groups import EncodedGroup
from palate.training.methods import Method, build_method
from palate.training.methods.rm import Rm
from tiny import random_groups

COMMON: dict[str, Any] = {"model_name_or_path": "m", "dataset": "d", "output_dir": "o", "cutoff_len": 64}
STAGE_OF = {"paired": "dpo", "ranked": "dpo", "unpaired": "kto", "reward": "rm"}
WEIGHTS = {"helpful": 0.5, "safe": 0.3, "brief": 0.2}
NEEDED: dict[str, dict[str, Any]] = {
    "multi_soft": {"dimension_weights": WEIGHTS},
    "multi_margin": {"dimension_weights": WEIGHTS, "dimension": "helpful"},
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
    "margin_weight": {"margin_weight": 0.5},
    "pref_ftx": {"pref_ftx": 0.2},
    "kl_coef": {"kl_coef": 0.01},
    "pref_bco_weight": {"pref_bco_weight": 0.5},
    "f_divergence_type": {"f_divergence_type": "js"},
    "f_alpha_divergence_coef": {"f_divergence_type": "alpha", "f_alpha_divergence_coef": 0.2},
    "ld_alpha": {"ld_alpha": 0.5},
    "use_weighting": {"use_weighting": True},
}
# orpo has no β; peers put its λ there, and so may its users here.
READ_AS_ANOTHER = {("orpo", "pref_beta")}
MIXTURE = {"sigmoid": 0.7, "aot": 0.3}


def method_of(stage: str, objective: Any, given: Mapping[str, Any]) -> Method[Any]:
    chosen = {} if objective is None else {"pref_loss": objective}
    return build_method(config_from_values({**COMMON, "stage": stage, **chosen, **given}).config)


def step(method: Method[Any]) -> list[EncodedGroup]:
    """Five groups of the kind that the method reads, with whatever any loss asks of a row."""
    sizes = {LabelledCompletion: 1, ScoredCompletion: 1, PreferencePair: 2}
    made = [
        replace(
            group,
            labels=(float(place % 2),),
            margin=0.5 * place,
            dimensions={"helpful": (5.0, 1.0 + place), "safe": (1.0, 3.0), "brief": (place, 2.0)},
        )
        for place, group in enumerate(random_groups(5, sizes.get(method.traits.record, 3), seed=7))
    ]
    return method.arrange(made, seed=1).groups


def scored(batch: Batch, *, square_sums: bool, seed: int, reference: torch.Tensor | None = None) -> Logps:
    """Log-probabilities as a model might give them; a policy's are those of the reference, moved."""
    generator = torch.Generator().manual_seed(seed)
    count = batch.target_ids.numel()
    noise = torch.rand(count, generator=generator)
    values = -0.3 - noise if reference is None else (reference + 1.2 * (noise - 0.6)).clamp(max=-0.05)
    sums = -0.2 - torch.rand(count, generator=generator) if square_sums else None
    return per_completion(TokenLogps(values, sums), batch)


def losses(stage: str, objective: Any, given: Mapping[str, Any]) -> torch.Tensor:
    """The loss of each group of one step, by the method that the config builds."""
    method = method_of(stage, objective, given)
    batch = pack(step(method))
    if isinstance(method, Rm):
        rewards = torch.randn(batch.completions, generator=torch.Generator().manual_seed(3))
        return method.loss(rewards, None, batch).loss
    reference = scored(batch, square_sums=False, seed=1)
    policy = scored(batch, square_sums=method.traits.square_sums, seed=2, reference=reference.token_logps)
    compared = reference if method.traits.needs_reference else None
    return method.loss(policy, compared, batch, training=True).loss


def test_every_option_of_every_objective_is_walked() -> None:
    assert set(OTHER) == set(OPTIONS) | {"margin_weight"}
    own = set(RewardObjectiveFields.model_fields) - set(OPTIONS) - {"pref_loss"}
    assert own == {"margin_weight"}


@pytest.mark.parametrize("key", OTHER)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_option_reaches_the_loss_or_is_refused(name: str, key: str) -> None:
    row = OBJECTIVES[name]
    stage, needed = STAGE_OF[row.family], NEEDED.get(name, {})
    reads = key in row.all_options or (key == "margin_weight" and name == "bradley_terry")
    if not reads and (name, key) not in READ_AS_ANOTHER:
        with pytest.raises(ConfigError) as refused:
            method_of(stage, name, {**needed, key: OTHER[key][key]})
        assert key in str(refused.value)
        assert "\n" not in str(refused.value)
        return
    beside = {other: value for other, value in OTHER[key].items() if other != key}
    before, after = losses(stage, name, {**needed, **beside}), losses(stage, name, {**needed, **OTHER[key]})
    assert torch.isfinite(after).all()
    assert (before - after).abs().max() > 1e-5


@pytest.mark.parametrize("key", OTHER)
def test_a_mixture_reads_an_option_or_refuses_it(key: str) -> None:
    rows = [OBJECTIVES[name] for name in MIXTURE]
    modifier = any(key in row.modifiers for row in OBJECTIVES.values())
    reads = (all if modifier else any)(key in row.all_options for row in rows)
    if not reads:
        with pytest.raises(ConfigError, match=key):
            method_of("dpo", MIXTURE, {key: OTHER[key][key]})
        return
    beside = {other: value for other, value in OTHER[key].items() if other != key}
    before, after = losses("dpo", MIXTURE, beside), losses("dpo", MIXTURE, OTHER[key])
    assert (before - after).abs().max() > 1e-5


@pytest.mark.parametrize("key", [*OTHER, "pref_loss"])
@pytest.mark.parametrize("stage", ["sft", "ppo", "grpo"])
def test_a_stage_without_objectives_refuses_their_options(stage: str, key: str) -> None:
    sampling = {} if stage == "sft" else {"rewards": "length:longer", "max_new_tokens": 4}
    if key == "kl_coef" and sampling:
        return  # their own key of that name, walked where they are
    given = {key: OTHER.get(key, {"pref_loss": "hinge"})[key], **sampling}
    with pytest.raises(ConfigError, match=key):
        method_of(stage, None, given)


@pytest.mark.parametrize("name", ["sigmoid", "kto", "bradley_terry"])
def test_an_option_at_its_default_changes_nothing(name: str) -> None:
    """What makes the walk above mean something: the same options give the same losses."""
    row = OBJECTIVES[name]
    stage = STAGE_OF[row.family]
    defaults = {key: option.default for key, option in row.all_options.items()}
    assert torch.equal(losses(stage, name, {}), losses(stage, name, defaults))
