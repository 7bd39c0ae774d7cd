"""Candidates and votes between files and a store, without loss in either direction."""

from palate.feedback.transfer.candidates import candidates_in, import_candidates
from palate.feedback.transfer.checks import Imported
from palate.feedback.transfer.files import ImportedFiles, import_files
from palate.feedback.transfer.votes import import_votes, to_row, to_vote, votes_in

__all__ = [
    "Imported",
    "ImportedFiles",
    "candidates_in",
    "import_candidates",
    "import_files",
    "import_votes",
    "to_row",
    "to_vote",
    "votes_in",
]
