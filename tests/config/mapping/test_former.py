"""Renamed keys: read for two minor versions with a note, then refused with the new name."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.config.load import load_config
from palate.config.mapping import former, translate
from palate.config.mapping.former import Former
from palate.config.reader import read_config_file, read_yaml_file
from palate.errors import ConfigError

RUN = "stage: dpo\nmodel_name_or_path: m\ndataset: d\noutput_dir: o\n"


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(translate, "FORMER_KEYS", {"preference_beta": Former("pref_beta", "0.3")})
    return monkeypatch


@pytest.mark.parametrize("version", ["0.3.0", "0.4.2", "0.5.0rc1"])
def test_an_old_name_is_read_with_a_note(renamed: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    renamed.setattr(former, "version", lambda _: version)
    (tmp_path / "run.yaml").write_text(f"{RUN}preference_beta: 0.3\n", encoding="utf-8")
    loaded = load_config(tmp_path / "run.yaml")
    assert loaded.config.model_dump()["pref_beta"] == 0.3
    assert loaded.notices == ("preference_beta is called pref_beta now; the old name is refused from palate 0.5 on",)


def test_it_is_refused_afterwards_and_together_with_the_new_name(renamed: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{RUN}preference_beta: 0.3\n", encoding="utf-8")
    renamed.setattr(former, "version", lambda _: "0.5.0")
    with pytest.raises(ConfigError, match=r"run.yaml:5: preference_beta is called pref_beta now; write the new name$"):
        load_config(path)
    renamed.setattr(former, "version", lambda _: "0.3.0")
    path.write_text(f"{RUN}preference_beta: 0.3\npref_beta: 0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="keep pref_beta"):
        load_config(path)


def test_a_file_of_this_version_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text("config_version: 1\nname: main\n", encoding="utf-8")
    assert list(read_config_file(path)) == ["name"]
    assert read_yaml_file(path) == {"name": "main"}
    for value, match in (
        (2, "any.yaml:2: config_version 2 is newer than this palate reads"),
        ("'1'", "from 1, not '1'$"),
    ):
        path.write_text(f"name: main\nconfig_version: {value}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=match):
            read_config_file(path)
    with pytest.raises(ConfigError, match="whole number"):
        read_yaml_file(path)
