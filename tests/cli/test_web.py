"""`palate web`: starts as `palate label serve` does, with all pages, and without torch."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from palate.cli.main import main
from palate.store import open_store
from palate.store.tables import utc_now
from palate.web.security import accounts, passwords
from run_files import write_run


def test_the_server_shows_the_runs_of_its_folders(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "dpo", steps=3)
    write_run(tmp_path / "more" / "kto", steps=3)
    command = [sys.executable, "-m", "palate", "web", "--port", "0", "--runs", "runs", "--runs", "more"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url), url
            for path in ("", "runs", "runs/runs/dpo", "runs/more/kto", "compare", "models", "loop", "label"):
                assert httpx2.get(f"{url}{path}", timeout=120).status_code == 200, path
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=120)
    assert server.returncode == 0
    assert (tmp_path / "palate.db").is_file()


def test_no_page_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from run_files import write_run\n"
        "from sites import make_site\n"
        "folder = Path(sys.argv[1])\n"
        "for name in ('a', 'b'): write_run(folder / 'runs' / name, steps=3)\n"
        "site = make_site(folder, local=True, runs=(folder / 'runs',))\n"
        "for path in ('/', '/runs', '/runs/a', '/compare', '/compare?run=a&run=b', '/models', '/loop', '/label'):\n"
        "    assert site.client().get(path).status_code == 200, path\n"
        "sys.exit(f'imported {heavy}' if (heavy := {'torch', 'transformers'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_that_does_not_exist_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["web", "--runs", "nothing"]) == 2
    assert capsys.readouterr().err.strip() == (
        "palate: error: --runs nothing: there is no such folder; name one that has runs below it"
    )
    assert list(tmp_path.iterdir()) == []


def test_other_machines_need_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["web", "--host", "0.0.0.0"]) == 2
    assert "nobody has an account" in capsys.readouterr().err


def test_nobody_can_have_the_name_of_the_automaton(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "palate.db"))
    stored = passwords.hash_password("correct horse battery", name="Palate")
    with pytest.raises(Exception, match="is the name under which a cycle acts"):
        store.write(lambda session: accounts.add_account(session, "Palate", stored, "admin", utc_now()))
    store.close()
