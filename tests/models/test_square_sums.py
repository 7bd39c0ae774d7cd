"""log Σ p² of each trained token's distribution, which WPO reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.models import score
from palate.models.probe.probe import probe
from palate.text.batch import pack
from tiny import random_groups, tiny_model


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_square_sums_are_those_of_the_models_own_logits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", 3 * 199)  # several chunks
    model: Any = tiny_model(kind)
    assert probe(model).packed
    batch = pack(random_groups(1, 1, seed=2))
    plain = model(**batch.model_inputs())
    asked = model(**batch.model_inputs(), square_sums=True)
    with torch.no_grad():
        logits = tiny_model(kind)(input_ids=batch.input_ids, use_cache=False).logits[0, batch.target_index]
    expected = logits.float().softmax(-1).square().sum(-1).log()
    assert plain.log_square_sums is None
    assert not asked.log_square_sums.requires_grad
    torch.testing.assert_close(asked.log_square_sums, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(asked.logps, plain.logps)
