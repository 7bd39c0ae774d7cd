"""The database of items, votes, judgements and accounts: SQLite, or PostgreSQL by URL."""

from palate.store.engine import Store, open_store
from palate.store.urls import store_url

__all__ = ["Store", "open_store", "store_url"]
