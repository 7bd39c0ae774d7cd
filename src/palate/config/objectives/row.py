"""A row of the objectives' table, and what follows from it once the options are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from palate.config.objectives.options import OPTIONS, Option

Family: TypeAlias = Literal["paired", "ranked", "unpaired", "reward"]
Options: TypeAlias = Mapping[str, Any]

LOG2 = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The facts about a loss that are known without computing it.

    Attributes:
        name: the value of `pref_loss`.
        aliases: its names in papers and other libraries.
        family: the records it reads: pairs, rankings, labelled answers, or pairs for a reward head.
        formula: the loss of one example.
        summary: a short description.
        options: its options by config key, without those of its modifiers; only β unless the row has others.
        modifiers: the config keys of the modifiers that it admits.
        needs_reference: whether it reads reference log-probabilities.
        couples_batch: whether the loss of one example depends on the others of the step (`couples` also considers the
            options).
        length_normalised: whether it reads per-token means (`averages` also considers the options).
        inputs: further arguments of the function, from the rows or from the steps before.
        start: loss at step 0 without modifiers: a number, or a function of options and number of answers; None where it
            depends on the data.
        source: arXiv id.
        reproduces: the option of another library that this equals, and known differences.
        when_to_use: advice in one line.
    """

    name: str
    aliases: tuple[str, ...] = ()
    family: Family
    formula: str
    summary: str
    options: Mapping[str, Option] = field(default_factory=lambda: own("pref_beta"))
    modifiers: tuple[str, ...] = ()
    needs_reference: bool = True
    couples_batch: bool = False
    length_normalised: bool = False
    inputs: tuple[str, ...] = ()
    start: float | Callable[[Options, int], float | None] | None = None
    source: str
    reproduces: str
    when_to_use: str

    @property
    def all_options(self) -> dict[str, Option]:
        """Its own options, then those of its modifiers, by config key."""
        return {**self.options, **{key: OPTIONS[key] for key in self.modifiers}}

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each option."""
        return {key: option.default for key, option in self.all_options.items()}

    def arguments(self, options: Options) -> dict[str, Any]:
        """The keyword arguments of the loss function for resolved `options`, without modifiers."""
        values = {option.argument: options[key] for key, option in self.options.items()}
        if "weights" in values:
            if "dimension" in values:
                values["dimension"] = list(values["weights"]).index(values["dimension"])
            values["weights"] = tuple(values["weights"].values())
        return values

    def modifier_arguments(self, options: Options) -> dict[str, Any]:
        """The fields of `objectives.modifiers.Modifiers` for resolved `options`."""
        return {OPTIONS[key].argument: options[key] for key in self.modifiers}

    def averages(self, options: Options) -> bool:
        """Whether the loss, and so its rewards, are in nats per token instead of nats per answer."""
        return self.length_normalised if "ipo_logps" not in self.options else options["ipo_logps"] == "mean"

    def couples(self, options: Options) -> bool:
        """Whether the step must be scored as a whole: because of the objective, or of an added BCO term."""
        return self.couples_batch or bool(options.get("pref_bco_weight", 0.0))

    def reward_scale(self, options: Options) -> float:
        """β of the reported rewards: the objective's β, orpo's λ, or 1 where there is neither."""
        return float(options.get("pref_beta", options.get("orpo_lambda", 1.0)))

    def loss_at_start(self, options: Options, *, completions: int = 2) -> float | None:
        """The loss while the policy equals the reference; None where it depends on the data.

        `completions` is the number of answers in a ranking.
        """
        if options.get("pref_ftx", 0.0) > 0.0 or options.get("use_weighting", False):
            return None
        bare = self.start(options, completions) if callable(self.start) else self.start
        bco = options.get("pref_bco_weight", 0.0)
        return None if bare is None else (bare + bco * 2.0 * LOG2) / (1.0 + bco)


def own(*keys: str, **changed: Option) -> Mapping[str, Option]:
    """An objective's options in the order of `OPTIONS`: `keys` as declared, `changed` with another default or range."""
    options = {**{key: OPTIONS[key] for key in keys}, **changed}
    return MappingProxyType({key: options[key] for key in OPTIONS if key in options})
