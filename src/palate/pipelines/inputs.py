"""What several runs read is looked for before the first of them starts: hours of training may lie between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate.config.pipeline import PlannedRun
from palate.config.stages.rollout import RolloutFields
from palate.data.scores import rule_score
from palate.data.sources.spec import find_sources
from palate.errors import ConfigError, DataError
from palate.records import DatasetRequest


def check_inputs(runs: Sequence[PlannedRun]) -> None:
    """Datasets must be there, and functions that judge or reward must load; a folder may be an earlier run's to make.

    Raises:
        DataError, ConfigError: what is not there, and the run that wants it.
    """
    for planned in runs:
        try:
            _check(planned)
        except (DataError, ConfigError) as error:
            raise type(error)(f"{planned.name}: {error}") from error


def _check(planned: PlannedRun) -> None:
    config, sampling = planned.config, planned.sampling
    for dataset in (config.dataset if sampling is None else sampling.prompts, config.eval_dataset):
        if dataset is not None:
            find_sources(DatasetRequest(dataset, config.dataset_dir))
    named = [] if sampling is None else [("judge", sampling.judge)]
    if isinstance(config, RolloutFields):
        named += [("rewards", term.name) for term in config.rewards]
    for key, spec in named:
        if not Path(spec).is_dir():
            rule_score(spec, key)
