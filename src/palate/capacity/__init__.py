"""Memory, time, disk and cost of a run before it starts, from shapes and lengths alone; imports no torch.

job → memory → duration → estimate → text
"""

from palate.capacity.estimate import Capacity, estimate
from palate.capacity.hardware import HARDWARE, Hardware, parse_hardware
from palate.capacity.job import Job, Row, Workload
from palate.capacity.memory import Memory, memory_of
from palate.capacity.shapes import SIZES, ModelShape, read_shape

__all__ = [
    "HARDWARE",
    "SIZES",
    "Capacity",
    "Hardware",
    "Job",
    "Memory",
    "ModelShape",
    "Row",
    "Workload",
    "estimate",
    "memory_of",
    "parse_hardware",
    "read_shape",
]
