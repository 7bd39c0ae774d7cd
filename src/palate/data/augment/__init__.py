"""Makes new pairs from existing ones: sampled and judged, corrupted, reworded, moved to another context, or revised.

Each new row records how it was made.
"""

from palate.data.augment.corrupt import CORRUPTIONS, corrupt
from palate.data.augment.made import Made
from palate.data.augment.run import KINDS, Augmentation, AugmentModels, AugmentPlan, augment, read_plan

__all__ = [
    "CORRUPTIONS",
    "KINDS",
    "AugmentModels",
    "AugmentPlan",
    "Augmentation",
    "Made",
    "augment",
    "corrupt",
    "read_plan",
]
