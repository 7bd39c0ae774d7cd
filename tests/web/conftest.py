"""A site with an account for each role, for the tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sites import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def local_site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, local=True)
    yield made
    made.store.close()
