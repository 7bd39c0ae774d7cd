"""The plan of an augmentation, from options or a YAML file: how many rows of each kind to make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from palate.config.reader import read_yaml_file
from palate.data.augment.corrupt import AIMS, CORRUPTIONS
from palate.data.augment.sampled import PRINCIPLES
from palate.errors import ConfigError, UsageError

BY_RULE = (*CORRUPTIONS, "reworded", "swapped_context")
BY_MODEL = ("sampled", "paraphrased", "revised")
KINDS = (*BY_RULE, *BY_MODEL)
"""All kinds of new rows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows of each kind to make.

    Attributes:
        kinds: amount by kind: up to 1 a share of the rows read, above 1 a number of rows.
        max_share: maximum number of new rows, as a share of the rows read.
        max_of_kind: maximum for one kind, as a share of `max_share`.
        seed: random seed.
        k: answers to sample for each prompt.
        by, min_margin: how a pair is chosen from the sampled answers, see `judged_pair`.
        principles: criteria for revisions.
    """

    kinds: Mapping[str, float]
    max_share: float = 0.5
    max_of_kind: float = 1.0
    seed: int = 0
    k: int = 4
    by: Literal["best_worst", "margin"] = "best_worst"
    min_margin: float = 0.0
    principles: tuple[str, ...] = PRINCIPLES

    @classmethod
    def aimed(cls, gaps: Sequence[str], share: float, **options: Any) -> Plan:
        """A plan that makes rows for the given gaps: accuracy, helpfulness or safety."""
        unknown = next((gap for gap in gaps if gap not in AIMS), None)
        if unknown is not None:
            raise UsageError(f"cannot aim at {unknown!r}; known are {', '.join(AIMS)}")
        kinds = [kind for gap in gaps for kind in AIMS[gap]]
        return cls({kind: share / len(kinds) for kind in kinds}, **options)


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a YAML file: `kinds: {dropped_end: 0.1}` and any other field of `Plan`.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    content = read_yaml_file(path)
    known = [field.name for field in fields(Plan)]
    if not isinstance(content, dict) or "kinds" not in content:
        raise ConfigError(f"{path}: must have kinds:, a mapping of kinds to shares or numbers of rows")
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{path}: unknown key {unknown!r}; known are {', '.join(known)}")
    try:
        return TypeAdapter(Plan).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
