"""Tokens, costs and limits."""

from __future__ import annotations

import pytest

from palate.feedback.judges.usage import Limits, Prices, UsageMeter
from palate.models.generation.endpoints.completion import Completion


def test_the_estimate_is_by_characters_and_then_by_the_replies() -> None:
    meter = UsageMeter(Prices(input=2.0, output=10.0))
    first = meter.estimate([(4000, 16), (4001, 16)])
    assert (first.requests, first.input_tokens, first.output_tokens) == (2, 1000 + 1001, 32)
    assert first.usd == pytest.approx((2001 * 2 + 32 * 10) / 1e6)
    assert first.line() == (
        "2 requests, about 2,001 input tokens (characters / 4), at most 32 output tokens, at most $0.0043"
    )
    meter.received(meter.sent(4000, 16), 4000, "A", 2000, 3)
    second = meter.estimate([(4000, 16)] * 10)
    assert (second.input_tokens, second.output_tokens, second.measured) == (20_000, 30, 1)
    assert "from 1 reply" in second.line()
    assert meter.usd == pytest.approx((2000 * 2 + 3 * 10) / 1e6)


def test_without_prices_there_is_no_cost() -> None:
    assert UsageMeter().estimate([(40, 1)]).usd is None
    assert "$" not in UsageMeter().estimate([(40, 1)]).line()
    assert "$" not in UsageMeter().line()


def test_open_requests_are_reserved_for() -> None:
    """Each may cost 0.4 USD: a second fits beside the first, a third has to wait for one of them."""
    meter = UsageMeter(Prices(input=0.0, output=1e6), Limits(usd=1.0))
    assert meter.refusal(0, 0.4) is None  # type: ignore[arg-type]
    reserved = [meter.sent(0, 0.4), meter.sent(0, 0.4)]  # type: ignore[arg-type]
    assert meter.refusal(0, 0.4) == ""  # type: ignore[arg-type]
    meter.received(reserved[0], 0, "", 0, 0)
    assert meter.refusal(0, 0.4) is None  # type: ignore[arg-type]
    meter.lost(reserved[1], 0, billed=True)
    assert "--max-usd" in str(meter.refusal(0, 1.1))  # type: ignore[arg-type]


def test_a_number_of_requests() -> None:
    meter = UsageMeter(limits=Limits(requests=1))
    assert meter.refusal(0, 1) is None
    meter.lost(meter.sent(0, 1), 0, billed=False)
    assert meter.refusal(0, 1) == "the limit of 1 request is reached (--max-requests)"
    assert (meter.requests, meter.failed, meter.replies) == (1, 1, 0)


def test_a_lost_request_may_be_billed() -> None:
    meter = UsageMeter(Prices(input=1.0))
    meter.lost(meter.sent(4_000_000, 1), 4_000_000, billed=True)
    assert meter.usd == pytest.approx(1.0)
    meter.lost(meter.sent(4_000_000, 1), 4_000_000, billed=False)
    assert meter.usd == pytest.approx(1.0)


def test_counts_that_the_endpoint_does_not_report_are_by_characters() -> None:
    meter = UsageMeter()
    meter.received(meter.sent(40, 9), 40, "12345", None, None)
    assert (meter.prompt_tokens, meter.completion_tokens) == (10, 2)
    meter.probed(Completion("A", "stop", prompt_tokens=None, completion_tokens=3))
    meter.probed(None)
    assert meter.line() == "1 request (and 2 to probe the endpoint), 10 input and 5 output tokens"
