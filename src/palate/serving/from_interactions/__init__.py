"""Recorded interactions as data: labelled answers, pairs, and candidates for labelling."""

from palate.serving.from_interactions.export import Made, Options, from_interactions

__all__ = ["Made", "Options", "from_interactions"]
