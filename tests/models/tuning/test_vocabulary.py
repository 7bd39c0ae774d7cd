"""A larger vocabulary: which ids new tokens get, and what their rows begin as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from palate.errors import ConfigError, ModelError
from palate.models.tuning.vocabulary import (
    add_tokens,
    add_tokens_of,
    embedding_modules,
    embedding_rows,
    enlarge_embedding,
    whole_modules,
)
from tiny import VOCABULARY, tiny_model, tiny_tokenizer


def test_new_tokens_are_one_id_each_and_special_ones_are_not_shown() -> None:
    tokenizer = tiny_tokenizer()
    before = len(tokenizer)
    lines = add_tokens(tokenizer, ["over there"], ["<a>", "</a>", "<|im_end|>"])
    assert lines == [
        "1 new tokens: over there",
        "2 new special tokens: <a>, </a>",
        "<|im_end|>: in the vocabulary already, not added again",
    ]
    ids = tokenizer("<a>over there</a>", add_special_tokens=False).input_ids
    assert ids == [before + 1, before, before + 2]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "over there"
    assert add_tokens(tokenizer, [], ["<a>"]) == ["<a>: in the vocabulary already, not added again"]
    assert len(tokenizer) == before + 3


def test_the_tokens_of_a_saved_tokenizer_get_the_same_ids(tmp_path: Path) -> None:
    saved = tiny_tokenizer()
    add_tokens(saved, ["over there"], ["<a>"])
    saved.save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    add_tokens_of(tokenizer, [str(tmp_path), str(tmp_path / "none")])
    assert tokenizer("<a>over there").input_ids == saved("<a>over there").input_ids
    assert tokenizer.decode(tokenizer("<a>over there").input_ids, skip_special_tokens=True) == "over there"
    other = tiny_tokenizer(size=280)
    with pytest.raises(ModelError, match="trained on another model"):
        add_tokens_of(other, [str(tmp_path)])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "phi", "gemma2"])
def test_new_rows_are_the_mean_of_the_old_ones(kind: str) -> None:
    model = tiny_model(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert enlarge_embedding(model, VOCABULARY) == 0
    assert enlarge_embedding(model, VOCABULARY + 3) == 3
    assert embedding_rows(model) == model.config.vocab_size == VOCABULARY + 3
    grown = 0
    for name, value in model.state_dict().items():
        if value.shape == before[name].shape:
            assert torch.equal(value, before[name]), name
            continue
        grown += 1
        assert torch.equal(value[:VOCABULARY], before[name])
        expected = before[name].mean(0).expand_as(value[VOCABULARY:])
        torch.testing.assert_close(value[VOCABULARY:], expected, atol=1e-6, rtol=0)
    assert grown == (3 if kind == "phi" else 2)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied is (kind in ("llama", "gpt2", "gemma2"))


def test_the_names_of_embedding_and_head() -> None:
    assert embedding_modules(tiny_model("llama")) == ["embed_tokens", "lm_head"]
    assert embedding_modules(tiny_model("gpt2")) == ["wte", "lm_head"]


def test_a_name_stands_for_the_modules_that_have_it_and_no_others() -> None:
    """PEFT takes the end of a path: `norm` would be `input_layernorm` too."""
    model = tiny_model("llama")
    assert whole_modules(model, ["embed_tokens", "lm_head"], "all") == ["embed_tokens", "lm_head"]
    assert whole_modules(model, ["norm"], "all") == ["model.norm"]
    with pytest.raises(ConfigError, match="no module named head"):
        whole_modules(model, ["head"], "all")
