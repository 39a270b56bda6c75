"""What a batch was asked with, and what each of its runs came to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("options", sa.JSON(none_as_null=True)))
    op.create_table(
        "batch_runs",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("batch_id", sa.String(26), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batch_runs"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_runs_batch_id"),
    )
    op.create_index("ix_batch_runs_batch_id", "batch_runs", ["batch_id"])
