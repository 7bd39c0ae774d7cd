"""What the lists of models of several endpoints must agree on."""

from __future__ import annotations

import pytest

from palate.errors import EngineRefused
from palate.models.generation.endpoints.endpoint import check_served


def test_an_endpoint_without_a_list_agrees_with_all() -> None:
    check_served("m", {"http://a": [], "http://b": [{"id": "m", "root": "w"}], "http://c": [{"id": "m", "root": "w"}]})
    with pytest.raises(EngineRefused, match="http://b serves m with root w, and http://c with root not given"):
        check_served("m", {"http://a": [], "http://b": [{"id": "m", "root": "w"}], "http://c": [{"id": "m"}]})
