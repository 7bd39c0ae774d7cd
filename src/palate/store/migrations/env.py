"""Run by Alembic: applies the migrations on the connection that `store.migrate` passes in."""

from __future__ import annotations

from alembic import context

from palate.store.migrate import VERSION_TABLE
from palate.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
