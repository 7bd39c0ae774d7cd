"""The loss: tensors and keyword numbers in, one loss for each pair out."""

import torch
from torch import Tensor

from palate.objectives.paired import PairLogps, log_ratios


def squared_hinge(pairs: PairLogps, *, beta: float) -> Tensor:
    """max(0, 1 − βΔ)², [n]."""
    chosen, rejected = log_ratios(pairs)
    return torch.relu(1.0 - beta * (chosen - rejected)).square()
