"""The steps of a cycle by name, in the order in which they run.

A step is a generator function of a `Work`. It yields its inputs, then the palate commands to run, in order, or what it
waits for, and returns what it found. It is called again from its start after a wait, a failure or a kill; commands that
have ended well are not run again, so everything else that it does must give the same when it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from palate.loop.steps.annotate import annotate, pairs
from palate.loop.steps.collect import candidates, collect, sample
from palate.loop.steps.deploy import canary, debug, deploy
from palate.loop.steps.train import evaluate, gate, train
from palate.loop.work import Inputs, Run, Work

_IN_ORDER = (collect, sample, candidates, annotate, pairs, train, evaluate, gate, canary, deploy, debug)
STEP: Final[Mapping[str, Callable[[Work], Run]]] = MappingProxyType({step.__name__: step for step in _IN_ORDER})


def input_hash(name: str, work: Work) -> str:
    """SHA-256 of everything that determines the output of a step."""
    inputs = next(STEP[name](work))
    assert isinstance(inputs, Inputs)  # the first item of every step
    return inputs.hash(work.folder)
