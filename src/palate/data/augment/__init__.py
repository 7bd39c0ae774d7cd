"""New pairs from existing ones: sampled and judged, corrupted, reworded, moved, revised; each says how it was made."""

from palate.data.augment.corrupt import CORRUPTIONS, corrupt
from palate.data.augment.made import Made
from palate.data.augment.plan import KINDS, Plan, read_plan
from palate.data.augment.run import Augmentation, Helpers, augment

__all__ = ["CORRUPTIONS", "KINDS", "Augmentation", "Helpers", "Made", "Plan", "augment", "corrupt", "read_plan"]
