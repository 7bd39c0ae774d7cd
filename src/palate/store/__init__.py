"""The database of items, votes, judgements, accounts and interactions: SQLite, or PostgreSQL by URL."""

from palate.store import serving_tables
from palate.store.engine import Store, open_store
from palate.store.urls import store_url

__all__ = ["Store", "open_store", "serving_tables", "store_url"]
