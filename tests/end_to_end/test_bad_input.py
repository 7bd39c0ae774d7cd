"""What a user gets wrong is one line that names the file, row or key; nothing is written, nothing is traced back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.cli.main import main
from runs import config_file, pairs, values, write_rows
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bad-input") / "llama")


def lines(path: Path, *rows: Any) -> str:
    return str(write_rows(path, list(rows)))


def broken_json(folder: Path) -> dict[str, Any]:
    path = folder / "broken.jsonl"
    good = [json.dumps(row) for row in pairs(4)]
    path.write_text("\n".join([*good[:2], '{"prompt": "a", "chosen": "b"', *good[2:]]), encoding="utf-8")
    return {"dataset": str(path)}


def broken_array(folder: Path) -> dict[str, Any]:
    path = folder / "broken.json"
    path.write_text(json.dumps(pairs(4), indent=1)[:-30], encoding="utf-8")
    return {"dataset": str(path)}


def missing_key(folder: Path) -> dict[str, Any]:
    return {
        "dataset": lines(folder / "keyless.jsonl", *({k: v for k, v in r.items() if k != "rejected"} for r in pairs(4)))
    }


def empty_or_equal(folder: Path) -> dict[str, Any]:
    rows = [{"prompt": "a", "chosen": "", "rejected": "b"}, {"prompt": "a", "chosen": "same", "rejected": "same"}]
    return {"dataset": lines(folder / "useless.jsonl", *rows * 3)}


def empty_file(folder: Path) -> dict[str, Any]:
    (folder / "empty.jsonl").touch()
    return {"dataset": str(folder / "empty.jsonl")}


def all_too_long(folder: Path) -> dict[str, Any]:
    return {"dataset": lines(folder / "long.jsonl", *pairs(4)), "cutoff_len": 4}


def without_weights(folder: Path) -> dict[str, Any]:
    path = save_tiny(folder / "hollow")
    (path / "model.safetensors").unlink()
    return {"model_name_or_path": str(path)}


def pickled(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        changed = without_weights(folder)
        torch.save({"weight": torch.ones(2)}, folder / "hollow" / name)
        return changed

    return make


def a_pickle_itself(folder: Path) -> dict[str, Any]:
    torch.save({"weight": torch.ones(2)}, folder / "sft.pth")
    return {"model_name_or_path": str(folder / "sft.pth")}


def torn_weights(folder: Path) -> dict[str, Any]:
    path = save_tiny(folder / "torn") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return {"model_name_or_path": str(folder / "torn")}


def no_template(folder: Path) -> dict[str, Any]:
    return {"model_name_or_path": str(save_tiny(folder / "plain", template=False))}


def an_adapter_as_model(folder: Path) -> dict[str, Any]:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    return {"model_name_or_path": str(folder / "adapter")}


def finished_run(folder: Path) -> dict[str, Any]:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text('{"status": "completed"}')
    return {}


def foreign_folder(folder: Path) -> dict[str, Any]:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("mine")
    return {"overwrite_output_dir": True}


def file_as_output(folder: Path) -> dict[str, Any]:
    (folder / "run").write_text("mine")
    return {}


def unsealed_checkpoint(folder: Path) -> dict[str, Any]:
    (folder / "checkpoint-3").mkdir()
    return {"resume_from_checkpoint": str(folder / "checkpoint-3")}


def fixed(**changed: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: changed


# what is wrong: how the config comes to be so, the exit code, and what the line must say
MISTAKES: dict[str, tuple[Callable[[Path], dict[str, Any]], int, tuple[str, ...]]] = {
    "missing file": (fixed(dataset="nowhere/pairs.jsonl"), 2, ("nowhere/pairs.jsonl",)),
    "broken JSON line": (broken_json, 1, ("broken.jsonl", "line 3")),
    "broken JSON array": (broken_array, 1, ("broken.json",)),
    "missing key in every row": (missing_key, 1, ("keyless.jsonl", "rejected")),
    "only empty or equal pairs": (empty_or_equal, 1, ("useless.jsonl", "equal", "empty")),
    "empty file": (empty_file, 1, ("empty.jsonl",)),
    "every row too long": (all_too_long, 1, ("too_long", "cutoff_len")),
    "unknown key": (fixed(learning_rat=1e-5), 2, ("learning_rat", "learning_rate")),
    "key of another trainer": (fixed(loss_type="ipo"), 2, ("loss_type", "pref_loss")),
    "unknown loss": (fixed(pref_loss="sigmoyd"), 2, ("sigmoyd", "sigmoid")),
    "option that the loss does not use": (fixed(simpo_gamma=0.5), 2, ("simpo_gamma", "sigmoid")),
    "value out of range": (fixed(pref_beta=-1), 2, ("pref_beta",)),
    "no such model": (fixed(model_name_or_path="./no-such-model"), 2, ("no-such-model",)),
    "model without weights": (without_weights, 1, ("hollow", "*.safetensors")),
    "weights in a .bin": (pickled("pytorch_model.bin"), 1, ("pytorch_model.bin", "palate model convert")),
    "weights in a .pth": (pickled("consolidated.pth"), 1, ("consolidated.pth", "palate model convert")),
    "weights in a .pt": (pickled("policy.pt"), 1, ("policy.pt", "palate model convert")),
    "a .pth as model": (a_pickle_itself, 1, ("sft.pth", "palate model convert")),
    "damaged weights": (torn_weights, 1, ("torn", "damaged")),
    "adapter as model": (an_adapter_as_model, 1, ("adapter_name_or_path",)),
    "no template": (no_template, 2, ("template",)),
    "unknown template": (fixed(template="qwenn"), 2, ("qwenn", "qwen")),
    "finished run in the way": (finished_run, 1, ("resume_from_checkpoint", "overwrite_output_dir")),
    "foreign files in the way": (foreign_folder, 1, ("thesis.tex", "output_dir")),
    "a file as output_dir": (file_as_output, 1, ("is a file",)),
    "no such checkpoint": (fixed(resume_from_checkpoint="nowhere/checkpoint-9"), 2, ("nowhere/checkpoint-9",)),
    "checkpoint that was not finished": (unsealed_checkpoint, 1, ("checkpoint-3", "not finished")),
    "no such reference": (fixed(ref_model="./no-such-reference"), 2, ("no-such-reference",)),
    "no such adapter": (
        fixed(adapter_name_or_path="./no-such-adapter", finetuning_type="lora"),
        1,
        ("no-such-adapter",),
    ),
    "more layers than there are": (
        fixed(finetuning_type="freeze", freeze_trainable_layers=9),
        2,
        ("freeze_trainable_layers", "3 decoder layers"),
    ),
    "no such module": (
        fixed(finetuning_type="freeze", freeze_extra_modules=["lm_haed"]),
        2,
        ("freeze_extra_modules", "lm_haed"),
    ),
    "no such target": (fixed(finetuning_type="lora", lora_target=["q_prj"]), 2, ("lora_target", "q_prj")),
    "quantised on a CPU": (fixed(finetuning_type="lora", quantization_bit=4), 1, ("quantization_bit",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(
    mistake: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, code, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    changed = make(tmp_path)
    output = tmp_path / "run"
    before = sorted(path.name for path in tmp_path.rglob("run*"))
    given = values(model, output, **changed)
    assert main(["train", str(config_file(tmp_path / "config.json", given))]) == code
    out, err = capfd.readouterr()
    assert out == ""
    complaints = [line for line in err.splitlines() if line.startswith("palate: error: ")]
    assert len(complaints) == 1
    assert err.splitlines()[-1] == complaints[0]
    assert "Traceback" not in err
    for word in words:
        assert word in complaints[0], complaints[0]
    assert sorted(path.name for path in tmp_path.rglob("run*")) == before, "something was written"
    if (output / "run.json").exists():
        assert json.loads((output / "run.json").read_text()) == {"status": "completed"}


def test_of_a_wrong_config_nothing_else_is_said(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = values(model, tmp_path / "run", pref_loss="sigmoyd")
    assert main(["train", str(config_file(tmp_path / "config.json", given))]) == 2
    assert capfd.readouterr().err.count("\n") == 1
