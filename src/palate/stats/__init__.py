"""Statistics of win rates, accuracies and agreement: exact formulas, frozen results, no torch.

Every function takes plain sequences or arrays and names its formula. Probabilities and rates are in [0, 1]. A level is
the two-sided coverage (0.95), so the bound of a one-sided 95 % test is an end of the 90 % interval.
"""

from __future__ import annotations

from palate.stats.annotation.aggregation import Aggregated, dawid_skene, mace, majority
from palate.stats.annotation.agreement import (
    Agreement,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
)
from palate.stats.annotation.calibration import Calibration, calibration
from palate.stats.annotation.prediction_powered import (
    Corrected,
    JudgeAccuracy,
    corrected_difference,
    judge_accuracy,
    ppi_mean,
    rogan_gladen,
)
from palate.stats.bootstrap import bootstrap_interval
from palate.stats.comparison.paired import PairedDifference, paired_difference
from palate.stats.comparison.sequential import sequential_difference, sequential_interval
from palate.stats.comparison.significance import (
    benjamini_hochberg,
    binomial_exact,
    binomial_midp,
    holm,
    items_needed,
    mcnemar_midp,
    pass_probability,
    smallest_effect,
)
from palate.stats.intervals import (
    FEW_CLUSTERS,
    Interval,
    cluster_mean_interval,
    mean_interval,
    newcombe_paired,
    percentile_bound,
    rate_interval,
    standard_error,
    t_test,
    wilson,
)
from palate.stats.winrate.alpaca_eval import GamedRows, alpaca_eval_rate
from palate.stats.winrate.bradley_terry import BradleyTerry, bradley_terry, ratable_groups
from palate.stats.winrate.length_control import LARGE_SHIFT, LengthControl, length_controlled
from palate.stats.winrate.rate import PositionReport, WinRate, position_report, win_rate

__all__ = [
    "FEW_CLUSTERS",
    "LARGE_SHIFT",
    "Aggregated",
    "Agreement",
    "BradleyTerry",
    "Calibration",
    "Corrected",
    "GamedRows",
    "Interval",
    "JudgeAccuracy",
    "LengthControl",
    "PairedDifference",
    "PositionReport",
    "WinRate",
    "alpaca_eval_rate",
    "benjamini_hochberg",
    "binomial_exact",
    "binomial_midp",
    "bootstrap_interval",
    "bradley_terry",
    "calibration",
    "cluster_mean_interval",
    "cohen_kappa",
    "corrected_difference",
    "dawid_skene",
    "fleiss_kappa",
    "holm",
    "items_needed",
    "judge_accuracy",
    "krippendorff_alpha",
    "length_controlled",
    "mace",
    "majority",
    "mcnemar_midp",
    "mean_interval",
    "newcombe_paired",
    "paired_difference",
    "pass_probability",
    "percent_agreement",
    "percentile_bound",
    "position_report",
    "ppi_mean",
    "ratable_groups",
    "rate_interval",
    "rogan_gladen",
    "sequential_difference",
    "sequential_interval",
    "smallest_effect",
    "standard_error",
    "t_test",
    "wilson",
    "win_rate",
]
