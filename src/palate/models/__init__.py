"""Models that score and generate: loading, attention, log-probabilities, references, generation, reward models."""

import os

# Packed rows have another shape at every step, and oneDNN keeps a compiled kernel for up to 1,024 shapes: 0.65 GB after
# 30 steps of the demo, and growing. It reads these variables at the first product.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "128")
