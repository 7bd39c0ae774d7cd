"""Trained models for other programs: merged weights, adapters, GGUF files, model hubs."""

from __future__ import annotations

from palate.models.export.adapter import export_adapter
from palate.models.export.gguf import check_converter, export_gguf
from palate.models.export.hub import prepare_repository, upload
from palate.models.export.merged import DTYPES, export_merged, stored_dtype

__all__ = [
    "DTYPES",
    "check_converter",
    "export_adapter",
    "export_gguf",
    "export_merged",
    "prepare_repository",
    "stored_dtype",
    "upload",
]
