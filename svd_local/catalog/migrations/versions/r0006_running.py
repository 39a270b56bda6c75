"""Runs of a batch, noted while they last, each with its pause."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("batches", "pause")  # of a command's minute
    with op.batch_alter_table("batch_runs") as table:
        table.add_column(sa.Column("state", sa.String(16), nullable=False, server_default="ended"))
        table.add_column(sa.Column("who", sa.String(128)))
        table.add_column(sa.Column("pause", sa.JSON(none_as_null=True)))
        table.create_check_constraint(
            "ck_batch_runs_state_is_known", "state IN ('running', 'ended', 'failed', 'lost')"
        )
        table.create_index("ix_batch_runs_who", ["who"])
