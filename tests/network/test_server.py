"""The server as a process: it answers, ends without a traceback, and says in one line why it cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from palate.errors import UsageError
from palate.network.address import Address
from palate.network.server import serve
from sites import make_site

PROGRAM = """
import sys
from palate.store import open_store
from palate.web.app import create_app
from palate.network.server import serve
from palate.web.settings import Settings
settings = Settings(port=0, local=True)
serve(create_app(open_store(sys.argv[1]), settings), settings.address, lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code", "last"), [(signal.SIGINT, 0, "ended"), (signal.SIGTERM, -signal.SIGTERM, "")]
)
def test_a_signal_ends_it_without_a_traceback(tmp_path: Path, number: int, code: int, last: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "palate.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    port = int(url.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\nserver:" not in answer.lower()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (code, last, "")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address(), "http://127.0.0.1:80/"),
        (Address(host="0.0.0.0"), "http://127.0.0.1:80/"),  # the host that a browser on this machine may send
        (Address(host="::"), "http://[::1]:80/"),
        (Address(host="::1"), "http://[::1]:80/"),
        (Address(https=True, names=("label.example.org",)), "https://label.example.org/"),
    ],
)
def test_the_address_that_is_printed(address: Address, url: str) -> None:
    assert address.url(80) == url


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site = make_site(tmp_path, local=True, port=port)
        with pytest.raises(UsageError) as refused:
            serve(site.app, site.settings.address)
        assert str(refused.value) == (
            f"--port {port} on 127.0.0.1 is in use; choose another one with --port, or stop what uses it"
        )
        site.store.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_one_line(tmp_path: Path, host: str) -> None:
    site = make_site(tmp_path)
    with pytest.raises(UsageError, match=rf"--port 8000 on {host} cannot be used: .*; choose another one"):
        serve(site.app, Address(host=host))
    site.store.close()
