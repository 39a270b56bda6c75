"""Runs the migrations on the connection, and in the transaction, that ``schema`` hands over."""

from __future__ import annotations

from alembic import context

from svd_local.catalog.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
