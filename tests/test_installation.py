"""`palate doctor`: broken installations are seen, and nothing is changed or given away."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest

from palate import installation
from palate.cli.main import main
from palate.installation import Check, check_installation
from palate.store import migrate, open_store
from palate.store.engine import schema_versions
from palate.store.migrate import newest


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_this_installation_works(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["broken"] == 0
    names = [check["name"] for check in said["checks"]]
    assert {"python", "palate", "packages", "device", "memory", "disk", "cache", "store"} <= set(names)
    assert str(tmp_path) not in json.dumps(said)
    assert not (tmp_path / "palate.db").exists()
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["ok", "python"]


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["torch>=2.8", "no-such-package>=1", "numpy>=2000", "nh3>=1000; extra == 'label'", 'ruff; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: [line.replace("'", '"') for line in lines])
    checks = check_installation()
    broken = [(check.found.split(" is ")[0], check.remedy) for check in checks if check.status == "broken"]
    assert broken == [
        ("no-such-package", "pip install 'no-such-package>=1'"),
        (f"numpy {importlib.metadata.version('numpy')}", "pip install 'numpy>=2000'"),
    ]
    assert named(checks, "label") == Check(
        "note", "label", "not installed: nh3 (the labelling page)", "pip install 'palate[label]'"
    )
    assert not [check for check in checks if check.name in ("packages", "device", "dev")]
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN  package" in out
    assert out.endswith("2 checks failed\n")


def test_a_page_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["torch>=2.8", "no-such-package; extra == 'label'", "numpy>=2000; extra == 'label'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    assert main(["web"]) == 2
    assert capsys.readouterr().err == "palate: error: this needs no-such-package: pip install 'palate[label]'\n"
    assert not Path("palate.db").exists()


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"lib{name}.so: undefined symbol")

    monkeypatch.setattr(installation.importlib, "import_module", fail)
    check = named(check_installation(), "torch")
    assert (check.status, check.found) == ("broken", "cannot be imported (libtorch.so: undefined symbol)")


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "file" / "cache"))
    check = named(check_installation(), "cache")
    assert (check.status, check.remedy) == ("broken", "set PALATE_CACHE to a folder of yours")


def test_the_store_is_read_and_not_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/votes.db"
    open_store(url).close()
    now = newest()
    assert schema_versions(url) == (now, now)
    assert named(check_installation(url), "store") == Check("ok", "store", f"sqlite, schema {now}")
    shutil.copytree(migrate._MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "migrations" / "versions" / "9999_next.py").write_text(
        f"revision, down_revision = 'next', {now!r}\n\n\ndef upgrade():\n    pass\n", encoding="utf-8"
    )
    monkeypatch.setattr(migrate, "_MIGRATIONS", tmp_path / "migrations")
    before = (tmp_path / "votes.db").read_bytes()
    assert named(check_installation(url), "store").remedy == "the next command upgrades it to next"
    assert (tmp_path / "votes.db").read_bytes() == before
    (tmp_path / "votes.db").write_bytes(b"no database" * 100)
    assert named(check_installation(url), "store").status == "broken"
    assert main(["doctor", "--store", url]) == 1
