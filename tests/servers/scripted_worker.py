"""A worker process whose fake tier dies, or loses its GPU, as a clip's prompt says. Run by path.

``die``, ``segv``, ``lose``, ``hang`` (in a call that does not come back) and ``freeze`` (as a whole) happen each time the clip is tried, ``die-once`` and the like the first time;
A GPU ``GPU-frozen`` has the first worker freeze while it starts; ``GPU-gone`` never answers.
``die:UUID`` only where that GPU is the visible one, while the others wait as long as the mark ``hold``
is there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from svd_local.batch.workers.worker import main
from svd_local.errors import DeviceLost
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.testing import FakeTier
from svd_local.tiers.base import Frames, Job

MARKS = Path(os.environ["SCRIPTED_MARKS"])


class ScriptedTier(FakeTier):
    def generate(self, job: Job) -> Frames:
        what, _, where = (job.request.prompt or "").partition(" ")[0].partition(":")
        if where in ("", os.environ.get("CUDA_VISIBLE_DEVICES")):
            self._obey(what, job)
        while (MARKS / "hold").exists():
            time.sleep(0.05)
            job.monitor.check()
        return super().generate(job)

    def _obey(self, what: str, job: Job) -> None:
        what, _, once = what.partition("-")
        mark = MARKS / f"{job.request.seed}"
        if once == "once" and mark.exists():
            return
        if what in ("die", "segv", "lose", "hang", "freeze"):
            mark.touch()
            job.monitor.report("denoise", 0, 1)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "hang":
            time.sleep(600)
        if what == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        if what == "lose":
            raise DeviceLost("device-side assert triggered", hint="Start again.")


def generator(settings: Settings) -> VideoGenerator:
    return VideoGenerator(settings, tiers=[ScriptedTier(True, settings.fake_seconds)])


def probe() -> str | None:
    mark = MARKS / "began"
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "GPU-frozen" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return "no answer" if os.environ.get("CUDA_VISIBLE_DEVICES") == "GPU-gone" else None


if __name__ == "__main__":
    sys.exit(main(generator, probe))
