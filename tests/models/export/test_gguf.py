"""GGUF by a converter that stands for llama.cpp's: its arguments, its failures, and no half file."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ModelError
from palate.models.export.gguf import export_gguf

CONVERTER = """
import argparse
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("model", type=Path)
parser.add_argument("--outfile", type=Path)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16"])
given = parser.parse_args()
assert (given.model / "config.json").is_file()
given.outfile.write_bytes(b"GGUF" + given.outtype.encode())
"""


def checkout(folder: Path, code: str) -> Path:
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(code)
    return folder


def model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_the_converter_gets_model_file_and_type(tmp_path: Path) -> None:
    export_gguf(model(tmp_path / "m"), checkout(tmp_path / "llama", CONVERTER), tmp_path / "m.gguf", dtype="fp16")
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUFf16"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module'; pip install -r .*requirements",
        ),
        ("raise SystemExit(3)", "failed: exit code 3"),
        ("raise NotImplementedError('Architecture X not supported')", "failed: .*Architecture X not supported"),
        ("pass", "wrote no GGUF file"),
    ],
)
def test_a_failure_is_one_line_and_leaves_no_file(tmp_path: Path, code: str, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        export_gguf(model(tmp_path / "m"), checkout(tmp_path / "llama", code), tmp_path / "m.gguf", dtype="fp32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "m"]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no llama\.cpp checkout"):
        export_gguf(model(tmp_path / "m"), tmp_path, tmp_path / "m.gguf", dtype="fp32")
