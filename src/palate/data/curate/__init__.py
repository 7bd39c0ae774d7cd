"""Keep the rows worth training on: rules from a small YAML, a reason for every row left out, nothing lost."""

from palate.data.curate.embedding import Embedder, EmbeddingDifference
from palate.data.curate.rules import PRESETS, RULES, Rule
from palate.data.curate.rules_file import read_rules
from palate.data.curate.run import Curation, curate

__all__ = ["PRESETS", "RULES", "Curation", "Embedder", "EmbeddingDifference", "Rule", "curate", "read_rules"]
