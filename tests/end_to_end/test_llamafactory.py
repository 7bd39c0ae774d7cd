"""A LLaMA-Factory user's file trains as it is: only model, dataset and output paths are changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.cli.main import main
from palate.models.loading.builtin import SMOLLM2
from runs import metrics, run_json
from tiny import save_tiny, tiny_tokenizer


def dataset_dir(folder: Path, data: Path) -> Path:
    """A data folder as LLaMA-Factory has it, with the file's entry as there."""
    (folder / "data").mkdir()
    entry = {
        "file_name": str(data),
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    }
    (folder / "data" / "dataset_info.json").write_text(json.dumps({"dpo_en_demo": entry}), encoding="utf-8")
    return folder / "data"


def changed_paths(model: Path | str, data: Path, output: Path) -> list[str]:
    """The peer's own names for what differs from machine to machine."""
    return [
        f"--set=model_name_or_path={model}",
        f"--set=ref_model={model}",
        "--set=dataset=dpo_en_demo",
        f"--set=dataset_dir={data}",
        f"--set=output_dir={output}",
    ]


def test_the_whole_file_trains_on_a_tiny_model(
    tmp_path: Path, shared_configs: Path, shared_data: object, capfd: pytest.CaptureFixture[str]
) -> None:
    data = dataset_dir(tmp_path, shared_data("preference/lf_dpo_en_demo.json"))  # type: ignore[operator]
    rows = json.loads(Path(shared_data("preference/lf_dpo_en_demo.json")).read_text(encoding="utf-8"))  # type: ignore[operator]
    # Nearly a word a token and one head of attention: what takes the time is length, not the file.
    texts = [turn["value"] for row in rows for turn in (*row["conversations"], row["chosen"], row["rejected"])]
    tokenizer = tiny_tokenizer(texts=texts, size=8000)
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "max_position_embeddings": 2048,
        **heads,
    }
    model = save_tiny(tmp_path / "chat-model", "qwen2", tokenizer=tokenizer, **shape)
    output = tmp_path / "aligned-model"
    code = main(["train", str(shared_configs / "llamafactory_dpo.yaml"), *changed_paths(model, data, output)])
    err = capfd.readouterr().err
    assert code == 0, err
    assert "fp16" in err  # asked for, not to be had on a CPU, and said
    record = run_json(output)
    assert record["status"] == "completed"
    assert record["config"]["lora_rank"] == 16
    groups = record["data"]["train_groups"]
    assert 260 < groups <= 270  # 300 rows, a tenth held out
    steps = metrics(output)
    assert len(steps) == -(-groups // 32)
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert steps[0]["learning_rate"] == 0.0  # warm-up
    assert 0 < steps[-1]["learning_rate"] < 5e-7 + 1e-12
    assert metrics(output, "eval")[-1]["step"] == len(steps)
    assert (output / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_it_trains_the_real_small_model(tmp_path: Path, shared_configs: Path, shared_data: object) -> None:
    data = dataset_dir(tmp_path, shared_data("preference/lf_dpo_en_demo.json"))  # type: ignore[operator]
    output = tmp_path / "aligned-model"
    overrides = [*changed_paths(SMOLLM2, data, output), "--set=max_samples=12"]
    assert main(["train", str(shared_configs / "llamafactory_dpo.yaml"), *overrides]) == 0
    assert run_json(output)["status"] == "completed"
    first = metrics(output)[0]
    # log 2 and 0 up to bf16 rounding, because the reference was scored in other batches: 0.003 and 0.006 with AMX.
    assert first["loss"] == pytest.approx(0.6931, abs=1e-2)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=2e-2)
    assert AutoTokenizer.from_pretrained(output).chat_template
    assert AutoModelForCausalLM.from_pretrained(output).get_input_embeddings().weight.isfinite().all()
