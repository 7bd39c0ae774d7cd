"""The model registry: immutable versions in folders, aliases that move between them, and the history of the moves.

`add` copies a run or model folder, `promote` and `rollback` move aliases, `resolve` finds a version by its name or an
alias and checks every file's hash, `collect` deletes versions that nothing refers to.
"""

from palate.registry.add import add as add
from palate.registry.aliases import moves as moves
from palate.registry.aliases import promote as promote
from palate.registry.aliases import rollback as rollback
from palate.registry.gc import collect as collect
from palate.registry.versions import Version as Version
from palate.registry.versions import find as find
from palate.registry.versions import problems as problems
from palate.registry.versions import resolve as resolve
from palate.registry.versions import versions as versions
