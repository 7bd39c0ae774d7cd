"""What Prometheus reads. Labels are names of models and routes of the app, never a user, a key or a text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        given = {"registry": self._registry}
        self.responses = Counter("palate_responses", "Responses by route and status", ["route", "status"], **given)
        self.requests = Counter("palate_requests", "Requests to models by their end", ["model", "state"], **given)
        self.seconds = Histogram(
            "palate_request_seconds", "From request to last byte", ["model"], buckets=_SECONDS, **given
        )
        self.first = Histogram(
            "palate_first_token_seconds", "From request to first token", ["model"], buckets=_SECONDS, **given
        )
        self.overhead = Histogram(
            "palate_overhead_seconds",
            "Time of a request in which neither the model nor the client was waited for",
            ["model"],
            buckets=_OVERHEAD,
            **given,
        )
        self.tokens = Counter("palate_tokens", "Tokens read and written", ["model", "kind"], **given)
        self.in_flight = Gauge("palate_in_flight", "Requests in progress", ["model"], **given)
        self.switches = Counter("palate_switches", "New versions of aliases", ["model", "result"], **given)
        self.shadows_left_out = Counter("palate_shadows_left_out", "Shadow requests not made: too many", **given)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
