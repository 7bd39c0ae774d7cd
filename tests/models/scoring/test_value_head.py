"""A value beside each log-probability; the model folder knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from palate.errors import ModelError
from palate.models.loading.save import save_pretrained
from palate.models.probe.probe import probe
from palate.models.scoring.value_head import add_value_head, load_value_head, save_value_head
from palate.text.batch import pack
from runs import weights
from tiny import random_groups, tiny_model


def test_values_stand_where_tokens_are_chosen_and_train() -> None:
    model = tiny_model()
    probe(model)
    batch = pack(random_groups(2))
    plain = model(**batch.model_inputs())
    assert plain.values is None
    add_value_head(model)
    scored = model(**batch.model_inputs())
    assert torch.equal(scored.logps, plain.logps)
    assert scored.values.tolist() == [0.0] * len(batch.target_ids)
    model.value_head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    values = model(**batch.model_inputs()).values
    hidden = model.get_decoder()(
        **{name: batch.model_inputs()[name] for name in ("input_ids", "position_ids", "attention_mask", "layout")}
    ).last_hidden_state[0, batch.target_index]
    assert torch.allclose(values, hidden @ model.value_head.weight[0], atol=1e-6)
    values.sum().backward()
    assert model.value_head.bias.grad.item() == len(values)
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0, "the trunk learns from values too"


def test_it_is_saved_in_a_file_of_its_own(tmp_path: Path) -> None:
    model = tiny_model()
    probe(model)
    add_value_head(model)
    model.value_head.bias.data.fill_(3.0)
    save_pretrained(model, tmp_path)
    assert not any("value_head" in name for name in weights(tmp_path))
    with pytest.raises(ModelError, match=r"value_head\.safetensors is missing"):
        load_value_head(model, tmp_path)
    save_value_head(model, tmp_path)
    model.value_head.bias.data.zero_()
    load_value_head(model, tmp_path)
    assert model.value_head.bias.item() == 3.0
