"""`palate serve` and `palate keys` as processes and as commands: one line at the start, quiet at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from gateways import ASK, Fake, serving
from palate.cli.main import main
from palate.cli.serve.verb import _settings
from palate.registry.behaviour import RollbackFields
from palate.store import Store


@contextmanager
def palate_serve(*arguments: str, expected_code: int = 0) -> Iterator[str]:
    """The line that the command prints; it is stopped by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "palate", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    killer = threading.Timer(120, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.communicate()[1])
        yield line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (process.returncode, out) == (expected_code, "")
        assert "Traceback" not in err
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def test_in_front_of_an_engine_with_a_key(
    tmp_path: Path, sqlite_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "gateway.db")
    assert main(["keys", "create", "app", "--record", "metadata", "--store", store, "--json"]) == 0
    key = {"Authorization": f"Bearer {json.loads(capsys.readouterr().out)['key']}"}
    with (
        serving(sqlite_store, Fake()) as engine,
        palate_serve("--upstream", f"{engine}/v1", "--store", store) as line,
    ):
        assert line.endswith("v1 serves m; API keys are needed; Ctrl-C stops\n")
        url = line.split()[0]
        assert httpx2.get(f"{url}/models").status_code == 401
        reply = httpx2.post(f"{url}/chat/completions", json={**ASK, "extra": 1}, headers=key)
        assert reply.json()["choices"][0]["message"]["content"] == "One two three"
        assert reply.headers["x-palate-feedback-token"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --model, --alias, --upstream and --config"),
        (["--model", "a", "--upstream", "http://127.0.0.1:1/v1"], "give one of"),
        (["--model", "a", "--upstream-model", "b"], "--upstream-model goes with --upstream"),
        (["--upstream", "http://127.0.0.1:1/v1"], "does not list its models (ConnectError); name one with"),
        (["--upstream", "ftp://x", "--upstream-model", "b"], "upstream"),
        (["--upstream", "http://h/v1", "--upstream-model", "b", "--host", "0.0.0.0"], "there is no API key"),
        (["--upstream", "http://127.0.0.1:1/v1", "--host", "0.0.0.0"], "there is no API key"),
        (["--alias", "production"], "production"),
        (["--config", "missing.yaml"], "missing.yaml: there is no such config file"),
        (["--config", "missing.yaml", "--max-rows", "4"], "--max-rows is of a model in this process"),
        (["--upstream", "http://127.0.0.1:9/v1", "--precision", "bf16"], "--precision is of a model in this process"),
    ],
)
def test_a_wrong_start_is_one_line(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments, "--store", str(tmp_path / "palate.db")]) in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("palate: error: ")
    assert message in line


def test_a_model_in_the_current_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    for given in (".", "../mine"):
        assert list(_settings(None, given, None, (None, None), {}, {}).models) == ["mine"]


def test_rollback_does_not_replace_that_of_the_file(tmp_path: Path) -> None:
    for fields, hours in (("rollback: {hours: 7}", 7), ("", RollbackFields().hours)):
        file = tmp_path / "serve.yaml"
        file.write_text(f"models: {{production: {{alias: production}}}}\n{fields}\n")
        read = _settings(file, None, None, (None, None), {}, {"rollback": {}}).rollback
        assert read is not None
        assert read.hours == hours


def test_a_port_in_use_is_one_line_before_a_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", "none", "--port", port, "--store", str(tmp_path / "palate.db")]) == 2
    assert "is in use; choose another one with --port" in capsys.readouterr().err


def test_keys_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "palate.db")
    terms = ["--record", "redacted", "--requests-per-minute", "60", "--tokens-per-day", "100000"]
    assert main(["keys", "create", "chat-ui", *terms, "--store", store]) == 0
    out, err = capsys.readouterr()
    key = out.strip()
    assert key.startswith("palate-")
    assert "not shown again" in err
    assert main(["keys", "list", "--store", store]) == 0
    listed = capsys.readouterr().out
    assert listed.strip() == "chat-ui  records redacted, 60 requests/min, 100,000 tokens/day, never used"
    assert main(["keys", "revoke", "chat-ui", "--store", store]) == 0
    assert main(["keys", "list", "--json", "--store", store]) == 0
    (row,) = json.loads(capsys.readouterr().out.partition("\n")[2])["keys"]
    assert (row["active"], row["recording"], row["tokens_per_day"]) == (False, "redacted", 100_000)
    assert key not in json.dumps(row)
    assert main(["keys", "revoke", "other", "--store", store]) == 2
    assert "there is no key other; palate keys list shows them" in capsys.readouterr().err
