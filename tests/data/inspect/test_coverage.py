"""Groups of prompts; warnings are errors in tests."""

from __future__ import annotations

from palate.data.inspect.coverage import prompt_clusters
from palate.data.inspect.inspection import PromptCluster


def test_prompts_that_differ_in_a_number_are_one_group_without_a_warning() -> None:
    asked = [f"Wie heißt die Hauptstadt Nummer {number} von Österreich; bitte kurz?" for number in range(60)]
    assert prompt_clusters(asked) == (PromptCluster(("bitte", "hauptstadt", "heißt", "kurz", "nummer"), 60, 1.0),)
