"""What every test relies on: no network, few threads, and real data beside the checkout where there is some."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from browser import chromium
from store_servers import postgres, postgres_template, sqlite_store, sqlite_template, store, store_address

__all__ = ["chromium", "postgres", "postgres_template", "sqlite_store", "sqlite_template", "store", "store_address"]

# Before anything imports transformers or a tracker: these read the environment once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")
# Reference values and tokenised rows of tiny models are no use to anybody after the tests.
os.environ["PALATE_REFERENCES"] = tempfile.mkdtemp(prefix="palate-references-")
os.environ["PALATE_TOKENS"] = tempfile.mkdtemp(prefix="palate-tokens-")

# A shell that starts the tests in the background has Ctrl-C ignored in them, and in every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _no_sync(descriptor: int) -> None:
    """In place of fsync: what a test writes need not survive a loss of power. A closed file is still an error."""
    os.fstat(descriptor)


os.fsync = _no_sync  # a run on a tiny model syncs 14 times, a third of its time

# Other examples at each run find more; in the continuous build a result must be repeatable.
if os.environ.get("CI"):
    from hypothesis import settings

    settings.register_profile("ci", derandomize=True)
    settings.load_profile("ci")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


# A hang is found at the limit of pyproject.toml; the real model on a processor without bf16 products, whose float32
# rate is a tenth, is no hang.
SLOW_TIMEOUT = 2700


# A long test that begins last leaves the other worker idle. Of two workers one has the first half of the items and the
# other the second, and who is done takes over from the end of the other's. So each half begins with the longest, and
# short ones follow: what a worker has next cannot be taken over.
@pytest.hookimpl(trylast=True)  # once those that -m leaves out have gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))
    circle = [item for item in slow if item.name == "test_the_whole_circle"]
    demo = [item for item in slow if item.path.name == "test_demo.py" and item not in circle]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    # The other long ones are of end_to_end, and come last.
    rest = [*demo, *fast, *(item for item in reversed(slow) if item not in demo + circle)]
    half = len(items) // 2
    items[:] = [*rest[:half], *circle, *rest[half:]]


# Every training run and every model that is given back makes a full collection. It visits each object of this process:
# half a million of them are torch's and transformers' modules, which stay. That is 0.3 s of a run's 0.4 s on a tiny
# model. Frozen objects are not visited; it is done again when a test has imported more of them.
_frozen_modules = 0


def _freeze() -> None:
    global _frozen_modules
    if len(sys.modules) > _frozen_modules + 100:
        gc.collect()
        gc.freeze()
        _frozen_modules = len(sys.modules)


def pytest_collection_finish() -> None:
    _freeze()


def pytest_runtest_logfinish() -> None:
    _freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer and weights large enough that answers differ."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("model") / "llama", initializer_range=0.2)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("preference/x.json")` is that file of ../shared/data; the test skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / "data" / name
        if not path.exists():
            pytest.skip(f"../shared/data/{name} is not there")
        return path

    return find


@pytest.fixture(scope="session")
def shared_configs() -> Path:
    """The folder ../shared/configs; the test skips where it is absent."""
    path = SHARED / "configs"
    if not path.exists():
        pytest.skip("../shared/configs is not there")
    return path
