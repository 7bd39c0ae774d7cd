"""Recorded interactions as data: labelled answers, pairs, and candidates for labelling."""

from palate.serving.from_interactions.export import ExportSummary, Options, from_interactions

__all__ = ["ExportSummary", "Options", "from_interactions"]
