"""palate fine-tunes language models on preference data.

The public names load what they need on first use, so that `import palate` is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate.threads import choose_wait_policy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palate.config.load import load_config as load_config
    from palate.config.run import DpoConfig as DpoConfig
    from palate.config.run import SftConfig as SftConfig
    from palate.data.load import LoadedData
    from palate.data.load import load_records as load_records
    from palate.errors import PalateError as PalateError
    from palate.evaluation.accuracy.evaluate import evaluate as evaluate
    from palate.evaluation.answers.compare import compare as compare
    from palate.evaluation.answers.generate import generate as generate
    from palate.feedback.candidates import Candidates as Candidates
    from palate.feedback.export.pairs import make_pairs as make_pairs
    from palate.feedback.export.pairs import pair_row as pair_row
    from palate.feedback.judging import judge as judge
    from palate.feedback.shards import join_shards as join_shards
    from palate.records import DatasetRequest as DatasetRequest
    from palate.records import DatasetSpec
    from palate.records import Judge as Judge
    from palate.records import PreferencePair as PreferencePair
    from palate.serving.loading import gateway as gateway
    from palate.store import open_store as open_store
    from palate.training.run import RunResult as RunResult
    from palate.training.run import train as train

# public name → the module that has it
_HOME = {
    "Candidates": "palate.feedback.candidates",
    "DatasetRequest": "palate.records",
    "DpoConfig": "palate.config.run",
    "Judge": "palate.records",
    "PalateError": "palate.errors",
    "PreferencePair": "palate.records",
    "RunResult": "palate.training.run",
    "SftConfig": "palate.config.run",
    "compare": "palate.evaluation.answers.compare",
    "evaluate": "palate.evaluation.accuracy.evaluate",
    "gateway": "palate.serving.loading",
    "generate": "palate.evaluation.answers.generate",
    "join_shards": "palate.feedback.shards",
    "judge": "palate.feedback.judging",
    "load_config": "palate.config.load",
    "load_records": "palate.data.load",
    "make_pairs": "palate.feedback.export.pairs",
    "open_store": "palate.store",
    "pair_row": "palate.feedback.export.pairs",
    "train": "palate.training.run",
}

__all__ = [
    "Candidates",
    "DatasetRequest",
    "DpoConfig",
    "Judge",
    "PalateError",
    "PreferencePair",
    "RunResult",
    "SftConfig",
    "__version__",
    "compare",
    "evaluate",
    "gateway",
    "generate",
    "join_shards",
    "judge",
    "load_config",
    "load_preferences",
    "load_records",
    "make_pairs",
    "open_store",
    "pair_row",
    "train",
]


def load_preferences(dataset: DatasetSpec | DatasetRequest, **choices: Any) -> LoadedData[PreferencePair]:
    """Comparisons as pairs, from any source that palate reads; `choices` are those of `load_records`.

    `load_preferences("pairs.jsonl").records[0].chosen`
    """
    loaded: LoadedData[PreferencePair] = import_module("palate.data.load").load_records(
        dataset, kind=import_module("palate.records").PreferencePair, **choices
    )
    return loaded


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    choose_wait_policy()  # before the first import of torch, after which it has no effect
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
