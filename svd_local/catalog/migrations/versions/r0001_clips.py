"""The table of clips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clips",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("tier", sa.String(64), nullable=False),
        sa.Column("checkpoint", sa.Text()),
        sa.Column("engine", sa.String(32)),
        sa.Column("device", sa.String(64)),
        sa.Column("speed", sa.String(32)),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("frames", sa.Integer()),
        sa.Column("fps", sa.Float(53)),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("duration_s", sa.Float(53)),
        sa.Column("elapsed_s", sa.Float(53), nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("poster", sa.Text()),
        sa.Column("manifest", sa.Text()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("removing", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clips"),
        sa.CheckConstraint(
            "kind IN ('generated', 'animated-stills')", name=op.f("ck_clips_kind_is_video")
        ),
    )
    op.create_index("ix_clips_fingerprint", "clips", ["fingerprint"])
    op.create_index("ix_clips_created_at", "clips", ["created_at"])
    op.create_index(
        "ix_clips_removing",
        "clips",
        ["removing"],
        sqlite_where=sa.text("removing = 1"),
        postgresql_where=sa.text("removing"),
    )
