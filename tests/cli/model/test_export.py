"""`palate model export`: each form is compared with the original, and one that differs is not kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palate.cli.main import main
from palate.evaluation.export import model as exporting
from palate.models.export.merged import export_merged
from runs import pairs, run, write_rows
from tiny import save_tiny


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA run that trained with a named chat template and held out half of its pairs."""
    folder = tmp_path_factory.mktemp("lora")
    save_tiny(folder / "base", template=False)
    run(
        folder / "base",
        folder / "run",
        template="llama3",
        finetuning_type="lora",
        lora_rank=4,
        rows=12,
        val_size=0.5,
        max_steps=2,
    )
    return folder / "run"


def exported(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["model", "export", *map(str, words), *([] if code else ["--json"])]) == code
    out, err = capsys.readouterr()
    return " ".join(err.split()) if code else json.loads(out)


def test_merged_bf16_and_adapter_stay_within_their_bounds(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = exported(capsys, lora, "--merged", "--dtype", "bf16", "--output", tmp_path / "merged")
    assert (done["dtype"], done["check"]["pairs"], done["check"]["bound"]) == ("bf16", 6, 0.05)
    assert 0 < done["check"]["largest_logp_difference"] < 0.05, "rounded, but little"
    done = exported(capsys, lora, "--adapter", "--output", tmp_path / "adapter")
    assert done["dtype"] is None
    assert done["check"]["largest_logp_difference"] < 1e-6
    assert "names the folder" in done["notices"][0]
    data = write_rows(tmp_path / "pairs.jsonl", pairs(5, seed=1))
    again = exported(
        capsys, tmp_path / "adapter", "--merged", "--dtype", "fp32", "--data", data, "--output", tmp_path / "again"
    )
    assert again["check"]["pairs"] == 5, "an adapter folder loads on the base that it names"


def test_a_rounding_that_changes_too_much_is_refused_with_a_remedy(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounded = ("--merged", "--dtype", "bf16", "--max-difference", 0, "--output", tmp_path / "out")
    assert "nats per token, more than 0; --dtype fp32 keeps every weight" in exported(capsys, lora, *rounded, code=1)


def test_a_base_in_bf16_gives_fp32_where_rounding_changes_too_much(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "stored_dtype", lambda _: "bf16")
    done = exported(capsys, lora, "--merged", "--output", tmp_path / "bf16")
    assert (done["dtype"], done["notices"]) == ("bf16", [])
    done = exported(capsys, lora, "--merged", "--max-difference", 1e-5, "--output", tmp_path / "fp32")
    assert (done["dtype"], done["check"]["bound"]) == ("fp32", 1e-5)
    assert (
        "rounding to bf16, that of the base's files, changes the model (log-probabilities differ" in done["notices"][0]
    )
    weights = load_file(tmp_path / "fp32" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_an_export_that_differs_is_not_kept(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    def broken(spec: Any, folder: Path, **options: Any) -> None:
        export_merged(spec, folder, **options)
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            model.model.norm.weight *= 3
        model.save_pretrained(folder)

    monkeypatch.setattr(exporting, "export_merged", broken)
    out = tmp_path / "out"
    said = exported(capsys, lora, "--merged", "--output", out, code=1)
    assert "the export differs from the model and is not kept: log-probabilities differ by up to" in said
    assert list(tmp_path.iterdir()) == []
    assert exported(capsys, lora, "--merged", "--output", out, "--no-check")["check"] is None
    assert (out / "config.json").is_file()


def test_an_export_with_another_chat_template_is_not_kept(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(spec: Any, folder: Path, **options: Any) -> None:
        export_merged(spec, folder, **options)
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|im_end|>{% endfor %}"
        )

    monkeypatch.setattr(exporting, "export_merged", broken)
    said = exported(capsys, lora, "--merged", "--output", tmp_path / "out", code=1)
    assert "6 pairs have other tokens: tokenizer or chat template differ" in said


def test_gguf_is_made_of_the_merged_model(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llama = tmp_path / "llama.cpp"
    llama.mkdir()
    (llama / "convert_hf_to_gguf.py").write_text(
        "import pathlib, sys\n"
        "merged = pathlib.Path(sys.argv[1])\n"
        "assert not (merged / 'adapter_config.json').exists() and (merged / 'model.safetensors').exists()\n"
        "pathlib.Path(sys.argv[3]).write_bytes(b'GGUF' + sys.argv[5].encode())\n"
    )
    done = exported(capsys, lora, "--gguf", llama, "--dtype", "fp16", "--output", tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUFf16"
    assert done["check"]["pairs"] == 6
    assert "the GGUF file itself is not scored" in done["notices"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.cpp", "m.gguf"]


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (["--output", "o"], 2, "name one form"),
        (["--merged", "--adapter", "--output", "o"], 2, "name one form"),
        (["--merged"], 2, "name the new folder"),
        (["--adapter", "--dtype", "bf16", "--output", "o"], 2, "--dtype is of merged weights"),
        (["--gguf", "x", "--output", "o"], 2, "--output MODEL.gguf"),
        (["--gguf", "x", "--output", "o.gguf"], 1, "no llama.cpp checkout"),
        (["--merged", "--output", "."], 1, "exists already"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    lora: Path, words: list[str], code: int, match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match in exported(capsys, lora, *words, code=code)


def test_a_model_without_held_out_pairs_needs_some(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = exported(capsys, lora.with_name("base"), "--merged", "--output", tmp_path / "o", code=2)
    assert (
        "is no run or checkpoint here, and has no held-out pairs to compare on: name some with --dataset, or --no-check"
        in said
    )
