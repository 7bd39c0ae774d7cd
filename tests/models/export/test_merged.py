"""A merged export is the model that plain transformers and PEFT compute; an adapter export loads on its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from palate.artifacts import read_json, write_json
from palate.errors import ModelError
from palate.models.export.merged import export_adapter, export_merged, stored_dtype
from palate.models.loading.spec import ModelSpec, adapter_spec
from tiny import save_tiny

IDS = torch.arange(3, 40)[None]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter with weights of its own beside its base, without a tokenizer."""
    save_tiny(tmp_path / "base")
    GenerationConfig(temperature=0.7, do_sample=True).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").write_text("---\nlibrary_name: peft\n---\n")
    return tmp_path / "adapter"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits  # type: ignore[no-any-return]


def stock(adapter: Path) -> torch.Tensor:
    """The logits by transformers and PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained(adapter.with_name("base"), dtype=torch.float32)
    return logits(PeftModel.from_pretrained(base, adapter))


def test_a_merged_model_has_the_same_logits_in_plain_transformers(adapter: Path, tmp_path: Path) -> None:
    spec = adapter_spec(adapter, template="llama3")
    out = tmp_path / "out"
    export_merged(spec, out, dtype="fp32")
    merged = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert merged.dtype is torch.float32
    torch.testing.assert_close(logits(merged), stock(adapter), atol=2e-5, rtol=1e-4)
    base = AutoModelForCausalLM.from_pretrained(adapter.with_name("base"), dtype=torch.float32)
    assert float((logits(base) - logits(merged)).abs().max()) > 0.1, "the adapter is in it"
    assert merged.generation_config.temperature == 0.7
    turns = [{"role": "user", "content": "hi"}]
    rendered = AutoTokenizer.from_pretrained(out).apply_chat_template(turns, tokenize=False)
    assert "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>" in rendered
    assert (out / "README.md").read_text() == "---\nlibrary_name: transformers\n---\n"


def test_a_dtype_rounds_once_and_fp16_refuses_what_it_cannot_hold(adapter: Path, tmp_path: Path) -> None:
    spec = adapter_spec(adapter)
    assert stored_dtype(spec) == "fp32"
    export_merged(spec, tmp_path / "out", dtype="bf16")
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert rounded.dtype is torch.bfloat16
    whole = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), adapter
    ).merge_and_unload()
    expected = whole.model.layers[0].self_attn.q_proj.weight.bfloat16()
    assert torch.equal(rounded.model.layers[0].self_attn.q_proj.weight, expected)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    with torch.no_grad():
        base.model.norm.weight[0] = 1e5
    base.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match=r"model\.norm\.weight is beyond the range of fp16 \(±65504\)"):
        export_merged(spec, tmp_path / "half", dtype="fp16")
    assert not (tmp_path / "half").exists()


def test_quantised_weights_are_refused(adapter: Path, tmp_path: Path) -> None:
    config = tmp_path / "base" / "config.json"
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    write_json(config, {**read_json(config), "quantization_config": quantised})
    with pytest.raises(ModelError, match="its weights are stored quantised"):
        stored_dtype(adapter_spec(adapter))


def test_an_adapter_alone_loads_on_its_base_with_the_tokenizer(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", {**config, "base_model_name_or_path": "base"})
    export_adapter(adapter_spec(adapter), tmp_path / "out")
    facts = read_json(tmp_path / "out" / "adapter_config.json")
    assert facts["base_model_name_or_path"] == str(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(facts["base_model_name_or_path"], dtype=torch.float32)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, tmp_path / "out")), stock(adapter))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template


def test_a_model_that_is_no_single_adapter_has_no_adapter_export(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a whole model, not an adapter; export it with --merged"):
        export_adapter(ModelSpec("m", str(tmp_path / "base")), tmp_path / "out")
    with pytest.raises(ModelError, match=r"a base into which a1 was merged first; export it with --merged"):
        export_adapter(ModelSpec("m", str(tmp_path / "base"), ("a1", str(adapter))), tmp_path / "out")


def test_an_adapter_whose_base_is_not_here_is_refused(adapter: Path) -> None:
    config = read_json(adapter / "adapter_config.json")
    for base, match in (("/no/such/base", "the adapter's base model is not here: /no/such/base"), (None, "no base")):
        write_json(adapter / "adapter_config.json", {**config, "base_model_name_or_path": base})
        with pytest.raises(ModelError, match=f"{match}.*name its run directory"):
            adapter_spec(adapter)
