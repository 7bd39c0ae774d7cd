"""Reward against KL to the reference: `frontier_models` names the points, `measure_frontier` measures them."""

from __future__ import annotations

from palate.evaluation.frontier.measure import measure_frontier
from palate.evaluation.frontier.models import frontier_models
from palate.evaluation.frontier.points import Frontier, FrontierAnswer, FrontierModel, FrontierPoint

__all__ = ["Frontier", "FrontierAnswer", "FrontierModel", "FrontierPoint", "frontier_models", "measure_frontier"]
