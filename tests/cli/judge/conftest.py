"""An endpoint, a store of its own, and no waiting."""

from __future__ import annotations

from chat_server import endpoint, make_httpserver, three_endpoints, three_servers, waits

__all__ = ["endpoint", "make_httpserver", "three_endpoints", "three_servers", "waits"]
