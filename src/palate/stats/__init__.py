"""Statistics of win rates, accuracies and agreement: exact formulas, frozen results, no torch.

Every function takes plain sequences or arrays and names its formula. Probabilities and rates are in [0, 1]. A level is
the two-sided coverage (0.95), so the bound of a one-sided 95 % test is an end of the 90 % interval.
"""

from __future__ import annotations

from palate.stats.agreement import Agreement, cohen_kappa, krippendorff_alpha
from palate.stats.bootstrap import bootstrap_interval
from palate.stats.intervals import (
    FEW_CLUSTERS,
    Interval,
    cluster_mean_interval,
    effective_size,
    mean_interval,
    newcombe_paired,
    rate_interval,
    standard_error,
    wilson,
)
from palate.stats.significance import benjamini_hochberg, binomial_exact, binomial_midp, holm, mcnemar_midp
from palate.stats.winrate import PositionReport, WinRate, position_report, win_rate

__all__ = [
    "FEW_CLUSTERS",
    "Agreement",
    "Interval",
    "PositionReport",
    "WinRate",
    "benjamini_hochberg",
    "binomial_exact",
    "binomial_midp",
    "bootstrap_interval",
    "cluster_mean_interval",
    "cohen_kappa",
    "effective_size",
    "holm",
    "krippendorff_alpha",
    "mcnemar_midp",
    "mean_interval",
    "newcombe_paired",
    "position_report",
    "rate_interval",
    "standard_error",
    "wilson",
    "win_rate",
]
