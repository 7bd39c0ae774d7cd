"""Models that score and answer: load · attention · logprobs · reference · trunk · generate."""

import os

# Packed rows have a shape of their own at every step, and the CPU kernels' library compiles and keeps a kernel for each
# of 1,024 shapes, which no estimate foresees: 0.65 GB in 30 steps of the demo, and growing. Read at the first product.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "128")
