"""palate teaches language models from comparisons.

The public names load what they need on first use, so that `import palate` is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palate.config.load import load_config as load_config
    from palate.config.run import DpoConfig as DpoConfig
    from palate.config.run import SftConfig as SftConfig
    from palate.errors import PalateError as PalateError

# name → module that has it
_HOME = {
    "DpoConfig": "palate.config.run",
    "PalateError": "palate.errors",
    "SftConfig": "palate.config.run",
    "load_config": "palate.config.load",
}

__all__ = ["DpoConfig", "PalateError", "SftConfig", "__version__", "load_config"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
