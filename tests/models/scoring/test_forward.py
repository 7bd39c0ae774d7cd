"""The scoring forward, and the sums over completions."""

from __future__ import annotations

import torch

from palate.models.cpu.llama_like import recognised
from palate.models.scoring.forward import install
from palate.models.scoring.head import head_of
from palate.models.scoring.logps import TokenLogps, per_completion
from palate.text.batch import pack
from tiny import random_groups, tiny_model


def test_without_targets_the_original_forward_answers() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    install(model, head_of(model))
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_a_model_that_has_scored_is_still_decoded_by_the_cpu_decoder() -> None:
    """A head with a forward of its own would count as hooked, and answers would take several times as long."""
    model = tiny_model("llama").eval()
    install(model, head_of(model))
    assert recognised(model)
    model(**pack(random_groups(2, seed=7)).model_inputs(), square_sums=True)
    assert "forward" not in vars(model.lm_head)
    assert recognised(model)


def test_sums_and_means_belong_to_their_completions() -> None:
    groups = random_groups(2, seed=7)
    batch = pack(groups)
    values = torch.arange(len(batch.target_ids), dtype=torch.float32)
    logps = per_completion(TokenLogps(values), batch)
    start = 0
    for number, completion in enumerate(c for group in groups for c in group.completions):
        n = int(completion.trained.sum())
        assert logps.tokens[number] == n
        assert logps.sums[number] == values[start : start + n].sum()
        assert logps.means[number] == values[start : start + n].mean()
        start += n
