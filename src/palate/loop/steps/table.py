"""The steps of a cycle, in the order in which they run.

Each step is a generator function of a `Work`: it yields the palate commands to run, in order, or what it waits for,
and returns what it found. It is called again from its start after a wait, a failure or a kill; commands that have ended
well are not run again, so everything else that it does must give the same when it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from palate.loop.steps.annotate import annotate, annotate_inputs, pairs, pairs_inputs
from palate.loop.steps.collect import candidates, candidates_inputs, collect, collect_inputs, sample, sample_inputs
from palate.loop.steps.deploy import canary, debug, decision_inputs, deploy
from palate.loop.steps.train import evaluate, evaluate_inputs, gate, gate_inputs, train, train_inputs
from palate.loop.work import Inputs, Run, Work


@dataclass(frozen=True, slots=True)
class Step:
    """A step.

    Attributes:
        run: the generator function.
        inputs: everything that determines its output.
    """

    run: Callable[[Work], Run]
    inputs: Callable[[Work], Inputs]


STEP: Final[Mapping[str, Step]] = MappingProxyType(
    {
        "collect": Step(collect, collect_inputs),
        "sample": Step(sample, sample_inputs),
        "candidates": Step(candidates, candidates_inputs),
        "annotate": Step(annotate, annotate_inputs),
        "pairs": Step(pairs, pairs_inputs),
        "train": Step(train, train_inputs),
        "evaluate": Step(evaluate, evaluate_inputs),
        "gate": Step(gate, gate_inputs),
        "canary": Step(canary, decision_inputs),
        "deploy": Step(deploy, decision_inputs),
        "debug": Step(debug, decision_inputs),
    }
)
