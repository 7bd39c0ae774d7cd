"""Memory, time, disk and cost of a run before it starts, from shapes and lengths alone; imports no torch.

`Job` (job.py) → `memory_of` → `duration_of` → `estimate` → `as_lines`.
"""
