"""The model registry: immutable versions in folders, aliases that move between them, and the history of the moves.

`add` copies a run or model folder, `promote` and `rollback` move aliases, `resolve` finds a version by its name or an
alias and checks every file's hash, `collect` deletes versions that nothing refers to. `set_canary` gives a version a
share of an alias's people; `record_verdict` and `decide` keep what gates and people said of a version.
"""

from palate.registry.add import add as add
from palate.registry.aliases import moves as moves
from palate.registry.aliases import promote as promote
from palate.registry.aliases import rollback as rollback
from palate.registry.canary import CanaryState as CanaryState
from palate.registry.canary import canary_of as canary_of
from palate.registry.canary import set_canary as set_canary
from palate.registry.gc import collect as collect
from palate.registry.verdicts import VerdictFacts as VerdictFacts
from palate.registry.verdicts import decide as decide
from palate.registry.verdicts import record_verdict as record_verdict
from palate.registry.verdicts import verdicts as verdicts
from palate.registry.versions import Version as Version
from palate.registry.versions import find as find
from palate.registry.versions import problems as problems
from palate.registry.versions import resolve as resolve
from palate.registry.versions import versions as versions
from palate.registry.versions import with_bases as with_bases
