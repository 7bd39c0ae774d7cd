"""Any dataset as records: found, read, recognised, converted, split, and every row accounted for.

load_records("pairs.jsonl", kind=PreferencePair)  →  LoadedData(records, dropped, sources)
split_records(records, val_size=0.1, seed=42)   →  (train, validation)
"""

from palate.data.formats.rows import RatedAnswers, Reading
from palate.data.formats.table import FORMATS, Format
from palate.data.load import LoadedData, load_records
from palate.data.source_reader import SourceReader
from palate.data.sources.open import open_source
from palate.data.split import split_records

__all__ = [
    "FORMATS",
    "Format",
    "LoadedData",
    "RatedAnswers",
    "Reading",
    "SourceReader",
    "load_records",
    "open_source",
    "split_records",
]
