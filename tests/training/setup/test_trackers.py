"""A tracker without its key is said before anything else happens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from palate.errors import ConfigError
from palate.training.setup import arguments
from palate.training.setup.arguments import check_trackers


class _Refused(Exception):  # noqa: N818
    pass


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return monkeypatch


def answer(patch: pytest.MonkeyPatch, login: Any) -> None:
    fake = SimpleNamespace(login=login, errors=SimpleNamespace(Error=_Refused))
    patch.setattr(arguments.importlib, "import_module", lambda _: fake)


def test_no_key_is_refused_with_three_ways_out(online: pytest.MonkeyPatch) -> None:
    answer(online, lambda prompt: False)
    with pytest.raises(ConfigError, match="no key: set WANDB_API_KEY or run `wandb login`, set WANDB_MODE=offline"):
        check_trackers(["tensorboard", "wandb"])


def test_a_key_that_the_server_does_not_take_is_refused(online: pytest.MonkeyPatch) -> None:
    def login(prompt: bool) -> bool:
        raise _Refused("key is too short\nsecond line")

    answer(online, login)
    with pytest.raises(ConfigError, match=r"does not take the key \(key is too short\)"):
        check_trackers(["wandb"])


def test_a_missing_package_is_named(online: pytest.MonkeyPatch) -> None:
    online.setattr(arguments, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install"):
        check_trackers(["wandb"])


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_offline_needs_no_key(online: pytest.MonkeyPatch, mode: str) -> None:
    online.setenv("WANDB_MODE", mode)
    answer(online, lambda prompt: False)
    check_trackers(["wandb"])


def test_a_key_passes(online: pytest.MonkeyPatch) -> None:
    answer(online, lambda prompt: True)
    check_trackers(["wandb"])
    check_trackers(["tensorboard"])
