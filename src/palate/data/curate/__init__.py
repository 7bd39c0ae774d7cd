"""Curation: rules from a YAML file decide which rows to keep; rejected rows are written too, with the reason."""

from palate.data.curate.base import Rule
from palate.data.curate.batch_rules import Embedder, EmbeddingDifference
from palate.data.curate.rules import PRESETS, RULES, read_rules
from palate.data.curate.run import Curation, curate

__all__ = ["PRESETS", "RULES", "Curation", "Embedder", "EmbeddingDifference", "Rule", "curate", "read_rules"]
