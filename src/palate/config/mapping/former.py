"""Names that palate has changed: the old one is read for two minor versions, with a note; then it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType

from packaging.version import Version

_MINOR_VERSIONS = 2
"""docs/release.md promises it."""


@dataclass(frozen=True, slots=True)
class Former:
    """What an old name is called now.

    Attributes:
        name: the name that it has now.
        since: the first version with that name, `0.2`.
    """

    name: str
    since: str

    @property
    def until(self) -> str:
        """The first version that refuses the old name."""
        major, minor = Version(self.since).release[:2]
        return f"{major}.{minor + _MINOR_VERSIONS}"

    @property
    def is_gone(self) -> bool:
        """Whether this palate refuses the old name."""
        return Version(version("palate")) >= Version(self.until)

    def line(self, old: str) -> str:
        """What to tell the user about the old name."""
        rest = "write the new name" if self.is_gone else f"the old name is refused from palate {self.until} on"
        return f"{old} is called {self.name} now; {rest}"


FORMER_KEYS: Mapping[str, Former] = MappingProxyType({})
"""Old key of `palate train` → the key that it is now. The keys of other trainers are in `config.mapping.table`."""
