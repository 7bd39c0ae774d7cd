"""A tracker without its key is said before anything else happens."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize(("name", "package"), [("mlflow", "'palate[mlflow]'"), ("trackio", "'trackio'")])
def test_the_package_of_each_tracker_is_looked_for(online: pytest.MonkeyPatch, name: str, package: str) -> None:
    online.setattr(arguments, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"report_to: {name} needs its package: pip install {re.escape(package)}"):
        check_trackers(["tensorboard", name])
    check_trackers(["tensorboard"])


def test_an_mlflow_that_does_not_answer_is_one_line_without_the_address(online: pytest.MonkeyPatch) -> None:
    class Client:
        def search_experiments(self, max_results: int) -> None:
            raise _Refused("http://ann:SECRET@mlflow.invalid/api refused")

    fake = SimpleNamespace(MlflowClient=Client, exceptions=SimpleNamespace(MlflowException=_Refused))
    online.setattr(arguments, "find_spec", lambda _: True)
    online.setattr(arguments.importlib, "import_module", lambda _: fake)
    with pytest.raises(ConfigError, match="MLflow does not answer at MLFLOW_TRACKING_URI") as found:
        check_trackers(["mlflow"])
    assert "SECRET" not in str(found.value)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_offline_needs_no_key(online: pytest.MonkeyPatch, mode: str) -> None:
    online.setenv("WANDB_MODE", mode)
    answer(online, lambda prompt: False)
    check_trackers(["wandb"])


def test_a_key_passes(online: pytest.MonkeyPatch) -> None:
    answer(online, lambda prompt: True)
    check_trackers(["wandb"])
    check_trackers(["tensorboard"])
