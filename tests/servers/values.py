"""A job and a clip with a value for all that can be odd about one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from svd_local.catalog.jobs import Job, Reason
from svd_local.result import Attempt, Clip, Correction, Files, Memory, Quality, Timings

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ODD = "ü\n\udcff\u2028"
JOB = Job(
    id=7,
    batch_id="b",
    key="k" * 64,
    row=3,
    index=1,
    fields={"prompt": ODD, "seed": 2**63 - 1, "guidance": [1.0, 3.0]},
    folder="a/b",
    name=None,
    priority=-2,
    state="running",
    attempt=2,
    not_before=NOW,
    worker="w",
    started_at=NOW,
    finished_at=None,
    clip_id=None,
    path=None,
    cached=False,
    reason=Reason("bug", ODD, "h"),
)
CLIP = Clip(
    kind="generated",
    path=Path(f"/o/{ODD}.mp4"),
    tier="local",
    attempts=(Attempt("local", "ok", elapsed_s=8.25),),
    parameters={"steps": 25, "seed": 2**63 - 1},
    files=Files(Path("/o/a.mp4"), None, None),
    corrections=(Correction("frames", 40, 25, "why"),),
    warnings=("w",),
    memory=Memory("resident", 1, 2, 3),
    timings=Timings(denoise_s=1.5),
    quality=Quality(True, {"black": 0.1}),
    fps=7.0,
)
