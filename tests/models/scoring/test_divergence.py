"""Full-vocabulary KL at every trained token, against whole logits of one row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from palate.errors import ModelError
from palate.models.probe.probe import probe
from palate.models.scoring import head
from palate.models.scoring.divergence import token_divergence
from palate.text.batch import pack, pad
from palate.text.groups import EncodedGroup
from tiny import PACKED, PADDED, random_groups, tiny_model


def by_hand(policy: Any, reference: Any, group: EncodedGroup) -> list[tuple[float, float, float]]:
    """(log π, log π_ref, KL) of each trained token, from float64 log-softmaxes of the original logits."""
    found = []
    for completion in group.completions:
        ids = torch.tensor(np.concatenate([group.prompt_ids, completion.ids])[None].astype(np.int64))
        with torch.no_grad():
            ours, theirs = (model.original_forward(input_ids=ids).logits[0].double() for model in (policy, reference))
        ours, theirs = ours.log_softmax(-1), theirs.log_softmax(-1)
        for place in np.flatnonzero(completion.trained):
            at, token = len(group.prompt_ids) + place - 1, completion.ids[place]
            kl = torch.sum(ours[at].exp() * (ours[at] - theirs[at]))
            found.append((float(ours[at, token]), float(theirs[at, token]), float(kl)))
    return found


@pytest.mark.parametrize("kind", [*PACKED, *PADDED])
def test_as_by_hand(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 5 * 199)
    policy, reference = tiny_model(kind, seed=0), tiny_model(kind, seed=1)
    probes = [probe(model) for model in (policy, reference)]
    packed = all(one.packed for one in probes)
    groups = random_groups(4)
    found = token_divergence(policy, reference, (pack if packed else pad)(groups))
    policy.set_attn_implementation("eager")
    reference.set_attn_implementation("eager")
    want = torch.tensor([row for group in groups for row in by_hand(policy, reference, group)])
    got = torch.stack(list(found), dim=-1)
    torch.testing.assert_close(got, want.float(), atol=2e-3, rtol=1e-3)
    assert (found.kl > 0).all()


def test_a_model_is_nowhere_away_from_itself() -> None:
    model, twin = tiny_model(seed=0), tiny_model(seed=0)
    probe(model), probe(twin)
    batch = pack(random_groups(3))
    same, equal = token_divergence(model, model, batch), token_divergence(model, twin, batch)
    assert same.kl.eq(0).all()
    assert torch.equal(same.logps, same.reference_logps)
    assert torch.equal(same.logps, equal.logps)
    assert equal.kl.eq(0).all()


def test_a_masked_token_is_no_nan() -> None:
    policy, reference = tiny_model("phi", seed=0), tiny_model("phi", seed=1)
    for model in (policy, reference):
        probe(model)
        model.lm_head.bias.data[-1] = -torch.inf
    found = token_divergence(policy, reference, pack(random_groups(2, answer=(2, 3), seed=3)))
    assert found.kl.isfinite().all()


def test_heads_of_different_size_are_refused() -> None:
    policy, reference = tiny_model(seed=0), tiny_model(seed=1)
    reference.resize_token_embeddings(250)
    probe(policy), probe(reference)
    with pytest.raises(ModelError, match="head has 199 tokens, the reference's 250"):
        token_divergence(policy, reference, pack(random_groups(1)))
