"""The sdist and the wheel: complete, and they work where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palate import __version__
from tiny import save_tiny

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = "from setuptools import build_meta; print(build_meta.build_{}({!r}))"
SECONDS = 120


def run(*command: str | Path, cwd: Path) -> str:
    """stdout of a command that must succeed; nothing of this checkout is on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked sdist, as an installer without a wheel builds it."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "checkout"
    source.mkdir()
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    run(sys.executable, "-c", BUILD.format("sdist", str(folder)), cwd=source)
    with tarfile.open(folder / f"palate-{__version__}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    run(sys.executable, "-c", BUILD.format("wheel", str(folder)), cwd=folder / f"palate-{__version__}")
    return folder / f"palate-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel; packages that palate needs are those of this interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *install, wheel, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    return folder / "bin"


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[str]:
    """The address that a server of ours prints when it listens."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    log = folder / f"{command[1]}.log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            for _ in range(SECONDS * 10):
                found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
                if found:
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.1)
            assert found, log.read_text()
            yield found[0]
        finally:
            process.terminate()
            process.wait(30)


def answer(url: str, body: object = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        text: str = reply.read().decode()
    return text


@pytest.mark.slow
def test_everything_but_tests_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.endswith("/")}
    source = REPOSITORY / "src"
    files = {path.relative_to(source).as_posix() for path in (source / "palate").rglob("*") if path.is_file()}
    wanted = {name for name in files if "__pycache__" not in name and not name.endswith(".md")}
    packaged = {name for name in inside if name.startswith("palate/")}
    assert packaged >= wanted, f"add to package-data: {sorted(wanted - packaged)}"
    assert not {name for name in inside if not name.startswith(("palate/", f"palate-{__version__}.dist-info/"))}
    assert f"palate-{__version__}.dist-info/licenses/LICENSE" in inside


@pytest.mark.slow
def test_commands_run_from_it(environment: Path, tmp_path: Path) -> None:
    palate = environment / "palate"
    where = run(environment / "python", "-c", "import palate; print(palate.__file__)", cwd=tmp_path)
    assert str(environment.parent) in where
    assert run(palate, "--version", cwd=tmp_path).strip() == f"palate {__version__}"
    checks = json.loads(run(palate, "doctor", "--json", cwd=tmp_path))
    assert checks["broken"] == 0
    model = save_tiny(tmp_path / "model")
    run(palate, "init", "palate-demo", "--model", model, cwd=tmp_path)
    run(palate, "train", "run.yaml", "max_steps=1", "output_dir=runs/demo", "sample_prompts=0", cwd=tmp_path)
    assert (tmp_path / "runs" / "demo" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_servers_start_from_it(environment: Path, tmp_path: Path) -> None:
    palate = str(environment / "palate")
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text('{"prompt": "Is water wet?", "completions": ["Yes.", "No."]}\n', encoding="utf-8")
    label = [palate, "label", "serve", "--candidates", candidates.name, "--port", "0", "--no-open"]
    with served(label, tmp_path) as url:
        page = answer(url)
        styles = re.findall(r'href="(/[^"]+\.css[^"]*)"', page)
        assert styles
        assert all(answer(url + style) for style in styles)
    model = save_tiny(tmp_path / "model")
    with served([palate, "serve", "--model", str(model), "--port", "0"], tmp_path) as url:
        chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        assert json.loads(answer(f"{url}/v1/chat/completions", chat))["choices"][0]["message"]["role"] == "assistant"
