"""Statistics of win rates, accuracies and agreement: exact formulas, frozen results, no torch.

Every function takes plain sequences or arrays and names its formula. Probabilities and rates are in [0, 1]. A level is
the two-sided coverage (0.95), so the bound of a one-sided 95 % test is an end of the 90 % interval.
"""

from __future__ import annotations

from palate.stats.annotation.aggregation import Aggregated as Aggregated
from palate.stats.annotation.aggregation import dawid_skene as dawid_skene
from palate.stats.annotation.aggregation import mace as mace
from palate.stats.annotation.aggregation import majority as majority
from palate.stats.annotation.agreement import Agreement as Agreement
from palate.stats.annotation.agreement import cohen_kappa as cohen_kappa
from palate.stats.annotation.agreement import fleiss_kappa as fleiss_kappa
from palate.stats.annotation.agreement import krippendorff_alpha as krippendorff_alpha
from palate.stats.annotation.agreement import percent_agreement as percent_agreement
from palate.stats.annotation.calibration import Calibration as Calibration
from palate.stats.annotation.calibration import calibration as calibration
from palate.stats.annotation.prediction_powered import Corrected as Corrected
from palate.stats.annotation.prediction_powered import JudgeAccuracy as JudgeAccuracy
from palate.stats.annotation.prediction_powered import corrected_difference as corrected_difference
from palate.stats.annotation.prediction_powered import judge_accuracy as judge_accuracy
from palate.stats.annotation.prediction_powered import ppi_mean as ppi_mean
from palate.stats.annotation.prediction_powered import rogan_gladen as rogan_gladen
from palate.stats.bootstrap import bootstrap_interval as bootstrap_interval
from palate.stats.comparison.paired import PairedDifference as PairedDifference
from palate.stats.comparison.paired import paired_difference as paired_difference
from palate.stats.comparison.sequential import sequential_difference as sequential_difference
from palate.stats.comparison.sequential import sequential_interval as sequential_interval
from palate.stats.comparison.significance import benjamini_hochberg as benjamini_hochberg
from palate.stats.comparison.significance import binomial_exact as binomial_exact
from palate.stats.comparison.significance import binomial_midp as binomial_midp
from palate.stats.comparison.significance import holm as holm
from palate.stats.comparison.significance import items_needed as items_needed
from palate.stats.comparison.significance import mcnemar_midp as mcnemar_midp
from palate.stats.comparison.significance import pass_probability as pass_probability
from palate.stats.comparison.significance import smallest_effect as smallest_effect
from palate.stats.intervals import FEW_CLUSTERS as FEW_CLUSTERS
from palate.stats.intervals import Interval as Interval
from palate.stats.intervals import cluster_mean_interval as cluster_mean_interval
from palate.stats.intervals import mean_interval as mean_interval
from palate.stats.intervals import newcombe_paired as newcombe_paired
from palate.stats.intervals import percentile_bound as percentile_bound
from palate.stats.intervals import rate_interval as rate_interval
from palate.stats.intervals import standard_error as standard_error
from palate.stats.intervals import t_test as t_test
from palate.stats.intervals import wilson as wilson
from palate.stats.winrate.alpaca_eval import GamedRows as GamedRows
from palate.stats.winrate.alpaca_eval import alpaca_eval_rate as alpaca_eval_rate
from palate.stats.winrate.bradley_terry import BradleyTerry as BradleyTerry
from palate.stats.winrate.bradley_terry import bradley_terry as bradley_terry
from palate.stats.winrate.bradley_terry import ratable_groups as ratable_groups
from palate.stats.winrate.length_control import LARGE_SHIFT as LARGE_SHIFT
from palate.stats.winrate.length_control import LengthControl as LengthControl
from palate.stats.winrate.length_control import length_controlled as length_controlled
from palate.stats.winrate.rate import PositionReport as PositionReport
from palate.stats.winrate.rate import WinRate as WinRate
from palate.stats.winrate.rate import position_report as position_report
from palate.stats.winrate.rate import win_rate as win_rate
