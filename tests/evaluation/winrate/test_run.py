"""What is checked before anything is loaded."""

from __future__ import annotations

import pytest

from palate.errors import DataError, UsageError
from palate.evaluation.winrate.run import WinRatePlan, check_plan
from palate.evaluation.winrate.sides import Side
from palate.models.generation.decoding import Decoding
from palate.records import Message, Record


def plan(*names: str, **changed: str) -> WinRatePlan:
    prompts = [Record(id=name, prompt=(Message("user", f"q{number}"),)) for number, name in enumerate(names)]
    return WinRatePlan(Side("a", "a"), Side("b", "b"), prompts, Decoding(), **changed)  # type: ignore[arg-type]


def test_two_prompts_with_one_id_would_share_their_verdicts() -> None:
    check_plan(plan("p:1", "p:2"))
    with pytest.raises(DataError, match="1 ids belong to two prompts or more, first p:1"):
        check_plan(plan("p:1", "p:2", "p:1"))


def test_columns_that_no_prompt_has() -> None:
    with pytest.raises(UsageError, match="--cluster topic: no prompt has this column; they have none"):
        check_plan(plan("p:1", cluster="topic"))
