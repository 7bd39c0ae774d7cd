"""The database of items, votes, accounts, model versions and interactions: SQLite, or PostgreSQL by URL."""

# Imported so that the metadata has all tables, whoever asks for it.
from palate.store import loop_tables as loop_tables
from palate.store import registry_tables as registry_tables
from palate.store import serving_tables as serving_tables
from palate.store.engine import Store, open_store
from palate.store.urls import store_url

__all__ = ["Store", "open_store", "store_url"]
