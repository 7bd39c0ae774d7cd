"""Users' functions by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.config.functions import load_function, names_function
from palate.errors import ConfigError, FunctionError, ModelError


@pytest.mark.parametrize("name", ["rewards:brief", "my.rewards:brief", "some/where/rewards.py:brief"])
def test_what_names_a_function(name: str) -> None:
    assert names_function(name)


@pytest.mark.parametrize("name", ["rewards", "runs/rm", "length:3", "a b:c", ":f", "m:", "no/where:f"])
def test_what_does_not(name: str) -> None:
    assert not names_function(name)


def test_modules_of_the_current_folder_and_files_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_scores_a.py").write_text("def brief(prompts, completions):\n    return [1.0]\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "other.py").write_text("def long(prompts, completions):\n    return [2.0]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    assert load_function("own_scores_a:brief", "rewards")([], []) == [1.0]
    assert load_function("deep/other.py:long", "rewards")([], []) == [2.0]


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("def brief(): ...\n", "{}:short", "has no function short; it has brief"),
        ("def brief(:\n", "{}:brief", "cannot be imported: SyntaxError"),
        ("raise RuntimeError('no\\nkey')\n", "{}:brief", "cannot be imported: RuntimeError: no key"),
        ("", "nowhere.py:brief", "there is no file nowhere.py"),
        ("", "no_such_module_here:brief", "cannot be imported: ModuleNotFoundError"),
        ("", "brief", "write module:function"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, source: str, name: str, said: str) -> None:
    file = tmp_path / "scores.py"
    file.write_text(source)
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_function(name.format(file), "--judge")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--judge: ")


def test_what_a_function_raises_is_one_line_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "scores.py"
    file.write_text(
        "from palate.errors import ModelError\n\ndef broken(a, b):\n    return a['x\\ny']\n\n"
        "def known(a, b):\n    raise ModelError('no model')\n"
    )
    with pytest.raises(FunctionError) as caught:
        load_function(f"{file}:broken", "rewards")({}, [])
    assert str(caught.value) == rf"rewards: {file}:broken failed in scores.py:4: KeyError: 'x\ny'"
    assert caught.value.exit_code == 1
    with pytest.raises(ModelError, match="no model"):
        load_function(f"{file}:known", "rewards")({}, [])
