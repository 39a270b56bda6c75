"""What a batch's last command left out of its manifest, and why one that runs begins no clip now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("skipped", sa.JSON(none_as_null=True)))
    op.add_column("batches", sa.Column("pause", sa.JSON(none_as_null=True)))
