"""The methods, in one table: the config class of a stage and the method that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from palate.config.run import DpoConfig, GrpoConfig, KtoConfig, PpoConfig, RmConfig, RunConfig, SftConfig
from palate.training.methods.base import LossOutput, Method
from palate.training.methods.dpo import Dpo
from palate.training.methods.grpo import Grpo
from palate.training.methods.kto import Kto
from palate.training.methods.multi import MultiObjective
from palate.training.methods.ppo import Ppo
from palate.training.methods.ranked import Ranked
from palate.training.methods.rm import Rm
from palate.training.methods.sft import Sft

__all__ = ["METHODS", "LossOutput", "Method", "build_method"]


def _preference(config: DpoConfig) -> Method[Any]:
    first = config.objectives[0].row
    if first.family == "ranked":
        return Ranked(config)
    return MultiObjective(config) if "dimension_weights" in first.options else Dpo(config)


METHODS: Mapping[type[RunConfig], Callable[[Any], Method[Any]]] = MappingProxyType(
    {DpoConfig: _preference, GrpoConfig: Grpo, KtoConfig: Kto, PpoConfig: Ppo, RmConfig: Rm, SftConfig: Sft}
)


def build_method(config: RunConfig) -> Method[Any]:
    return METHODS[type(config)](config)
