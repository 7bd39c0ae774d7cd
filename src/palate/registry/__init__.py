"""The model registry: immutable versions in folders, aliases that move between them, and the history of the moves.

`add` copies a run or model folder, `promote` and `rollback` move aliases, `resolve` gives the folder of a version or
alias after checking every file's hash, `collect` deletes versions that nothing refers to.
"""

from __future__ import annotations

from palate.registry.add import Added, add
from palate.registry.aliases import PREVIOUS, PRODUCTION, Move, moves, promote, rollback
from palate.registry.gc import Collected, collect
from palate.registry.versions import Version, find, is_known, problems, resolve, versions

__all__ = [
    "PREVIOUS",
    "PRODUCTION",
    "Added",
    "Collected",
    "Move",
    "Version",
    "add",
    "collect",
    "find",
    "is_known",
    "moves",
    "problems",
    "promote",
    "resolve",
    "rollback",
    "versions",
]
