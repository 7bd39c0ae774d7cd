"""What Prometheus reads. Labels are names of models and routes of the app, never a user, a key or a text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_OVERHEAD_IS = "Time of a request in which neither the model nor the client was waited for"


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.responses = self._counter("responses", "Responses by route and status", "route", "status")
        self.requests = self._counter("requests", "Requests to models by their end", "model", "state")
        self.seconds = self._histogram("request_seconds", "From request to last byte", _SECONDS)
        self.first = self._histogram("first_token_seconds", "From request to first token", _SECONDS)
        self.overhead = self._histogram("overhead_seconds", _OVERHEAD_IS, _OVERHEAD)
        self.tokens = self._counter("tokens", "Tokens read and written", "model", "kind")
        self.in_flight = Gauge("palate_in_flight", "Requests in progress", ["model"], registry=self._registry)
        self.switches = self._counter("switches", "New versions of aliases, and canaries", "model", "result")
        self.canary_share = Gauge(
            "palate_canary_share", "Share of people whom a loaded canary answers", ["model"], registry=self._registry
        )
        self.shadows_left_out = self._counter("shadows_left_out", "Shadow requests not made: too many", "model")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"palate_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"palate_{name}", meaning, ["model"], buckets=buckets, registry=self._registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
