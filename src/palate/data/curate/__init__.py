"""Keep the rows worth training on: rules from a small YAML, a reason for every row left out, nothing lost."""

from palate.data.curate.rules import PRESETS, RULES, Rule
from palate.data.curate.run import Curation, curate, read_rules

__all__ = ["PRESETS", "RULES", "Curation", "Rule", "curate", "read_rules"]
