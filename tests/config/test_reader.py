"""YAML read as its users mean it, and refused with file and line."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.reader import as_yaml, dump_yaml, read_config_file, read_override, read_yaml_file
from palate.errors import ConfigError


def read(folder: Path, text: str) -> dict[str, object]:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return {key: entry.value for key, entry in read_config_file(path).items()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("5.0e-7", 5e-7),
        ("5E-07", 5e-7),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("1_000", 1000),
        ("42", 42),
        ("0", 0),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("3.4.5", "3.4.5"),
        ("'5e-7'", "5e-7"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("[no, da]", ["no", "da"]),
        ("null", None),
        ("~", None),
        ("", None),
        ("[a, 1e-3]", ["a", 1e-3]),
    ],
)
def test_scalars_are_what_a_person_takes_them_for(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)
    assert read_override(f"key={text}")[1].value == value


@given(st.floats(min_value=1e-12, max_value=1e12, allow_subnormal=False))
def test_every_float_that_python_prints_is_a_number(value: float) -> None:
    for text in (repr(value), f"{value:e}", f"{value:.0e}"):
        assert read_override(f"key={text}")[1].value == float(text)


def test_each_key_knows_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# first\nstage: dpo\n\ndataset:\n  - a\n  - b\nseed: 1\n", encoding="utf-8")
    assert {key: entry.where for key, entry in read_config_file(path).items()} == {
        "stage": f"{path}:2",
        "dataset": f"{path}:4",
        "seed": f"{path}:7",
    }


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    values = read(tmp_path, "fsdp_config: &base {a: 1}\ndeepspeed:\n  <<: *base\n  b: 2\n")
    assert values["deepspeed"] == {"a": 1, "b": 2}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfstage: dpo\r\nseed: 7\r\n")
    assert {key: entry.value for key, entry in read_config_file(path).items()} == {"stage": "dpo", "seed": 7}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a is given twice, first on line 1"),
        ("a:\n  x: 1\n  y: 2\n  x: 3\n", 4, "x is given twice, first on line 2"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "expected"),
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", 2, "indent with spaces"),
        ("- a\n- b\n", 1, "`key: value`"),
        ("just words\n", 1, "`key: value`"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "could not determine a constructor"),
    ],
)
def test_what_is_no_config_is_one_line_with_its_place(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'run.yaml'}:{line}: ")
    assert words in message
    assert "\n" not in message


def test_an_empty_file_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.yaml: the file is empty; write `key: value` lines"):
        read(tmp_path, "# nothing\n")


def test_a_missing_file_offers_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "recommended.yaml").write_text("stage: dpo\n", encoding="utf-8")
    near = tmp_path / "recommended.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"no such config file; did you mean {near}?")):
        read_config_file(tmp_path / "recomended.yaml")


def test_a_data_file_is_sent_to_palate_init(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a data file, not a config file; palate init .*pairs\.jsonl --model"):
        read_config_file(tmp_path / "pairs.jsonl")


def test_folders_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        read_config_file(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"run_name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 13\)"):
        read_config_file(tmp_path / "latin.yaml")


@pytest.mark.parametrize("text", ["learning_rate", "=1", "  =1"])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write --set key=value"):
        read_override(text)


def test_an_override_keeps_what_stands_after_the_first_equals_sign() -> None:
    assert read_override("run_name=a=b") == ("run_name", read_override("x=a=b")[1])
    assert read_override(" seed = 7")[0] == "seed"
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_override("template={a")


def test_values_are_shown_as_they_stand_in_the_file() -> None:
    assert [as_yaml(value) for value in (None, True, False, "text", 0.5)] == ["null", "true", "false", "text", "0.5"]
    assert len(as_yaml("x" * 1000)) == 58


@pytest.mark.parametrize(
    "value", ["no", "5e-7", "1e3", "010", "true", "1:30", "~", "", "a: b", 5e-7, 3, None, True, ["off", {"a": "2"}]]
)
def test_what_is_written_is_read_back(value: object) -> None:
    text = dump_yaml(value)
    assert "\n" not in text
    assert read_override(f"key={text}")[1].value == value


def test_a_whole_file_is_read_by_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("- no\n- {rate: 5e-7}\n")
    assert read_yaml_file(path) == ["no", {"rate": 5e-7}]
    path.write_text("")
    assert read_yaml_file(path) is None
    path.write_text("a:\n  b: 1\n  b: 2\n")
    with pytest.raises(ConfigError, match=r"rules\.yaml:3: b is given twice, first on line 2"):
        read_yaml_file(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_yaml_file(tmp_path / "none.yaml")


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise("abcdefghi")]
    with pytest.raises(ConfigError, match=r"run\.yaml:1: its anchors and aliases expand to more than 100,000 values"):
        read(tmp_path, "\n".join(lines))
    assert read(tmp_path, "a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_deep_nest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested too deep"):
        read(tmp_path, "a: " + "[" * 5000)
