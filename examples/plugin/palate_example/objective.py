"""What is known of the loss without computing it. This module imports no torch: configs are checked without it."""

from palate.config.objectives.row import Objective

SQUARED_HINGE = Objective(
    name="squared_hinge",
    family="paired",
    formula="max(0, 1 − βΔ)²",
    summary="SLiC's hinge, squared: smooth at the margin",
    start=1.0,
    source="2305.10425",
    reproduces="Not in TRL or LLaMA-Factory.",
    when_to_use="An example of a plug-in.",
)
