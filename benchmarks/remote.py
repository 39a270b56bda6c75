"""What a remote tier adds to the bare HTTP exchange; proving, scaling and encoding are counted apart.

    python -m benchmarks.remote [--runs N] [--json FILE]

One clip by the tier and one replay of the very requests it sent, by a plain client of the same library,
against the same loopback server, by turns. What is added is the tier's time less the replay's, less what
it spends on opening what came (a video is decoded, pictures are) and on bringing pictures to size for the
server or the animation. The aim is 50 ms a clip. Writes results/remote.json.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks.common import RESULTS, ROOT, Result, finish, machine, spread, versions
from benchmarks.options import count, run, target

sys.path.insert(0, str(ROOT / "tests"))

from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Scripted, Seen, serving
from servers.webui import WebUI

TARGET_S = 0.05
SIZE, FRAMES = (1024, 576), 25
TOKEN = "hf_of_a_benchmark"  # noqa: S105 - sent to the loopback server only


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=count, default=21)
    parser.add_argument("--json", type=target, default=RESULTS / "remote.json")
    arguments = parser.parse_args()
    finish(measure(arguments.runs), arguments.json)


def measure(runs: int) -> Result:
    """Each service in turn; the first turn of each is not counted."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    video = draw_video()
    services = {
        "huggingface": against_hub(video, runs),
        "webui, pictures": against_webui(WebUI(), runs),
        "webui, frames": against_webui(WebUI("sdnext"), runs),
    }
    return {
        "benchmark": "remote",
        "runs": runs,
        "width": SIZE[0],
        "height": SIZE[1],
        "frames": FRAMES,
        "services": services,
        "target_s": TARGET_S,
        "reached": all(one["added_s"]["median"] <= TARGET_S for one in services.values()),
        "machine": {**machine("cpu"), "load_average": os.getloadavg()[0]},
        "versions": versions(),
    }


def against_hub(video: bytes, runs: int) -> Result:
    """A picture to a video by fal-ai's protocol, whose library sleeps before each look."""
    import huggingface_hub.inference._providers as providers

    from svd_local.tiers.huggingface import HuggingFaceTier

    with (
        mock.patch.object(providers.fal_ai, "_POLLING_INTERVAL", 0.0),
        serving(Hub(video)) as server,
    ):
        route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
        tier = HuggingFaceTier(TOKEN, True, MODEL, route=route)
        job = job_for(tier)
        return by_turns(runs, server, lambda: tier.generate(job))


def against_webui(dialect: WebUI, runs: int) -> Result:
    """Variations of a picture, or the frames of SD.Next's own script."""
    from svd_local.tiers.webui import WebUITier

    dialect.encoded = functools.cache(dialect.encoded)
    with serving(dialect) as server:
        tier = WebUITier(server.url)
        job = job_for(tier)
        return by_turns(runs, server, lambda: tier.generate(job))


def job_for(tier: Any) -> Any:
    """The job a generator would give the tier."""
    from svd_local.keyframe.types import Keyframe
    from svd_local.request import ClipRequest
    from svd_local.tiers.base import Job, Monitor

    request = ClipRequest(prompt="a pump", image=b"picture", size=SIZE, frames=FRAMES, seed=1)
    plan = tier.plan(request)
    image = Image.linear_gradient("L").resize(plan.size).convert("RGB")
    return Job(request, plan, (Keyframe(image, "ab" * 32, "picture"),), Monitor())


def by_turns(runs: int, server: Scripted, generate: Callable[[], Any]) -> Result:
    """Seconds of the tier, of the bare exchange and of what is counted apart; what is added."""
    generate()
    server.seen.clear()
    generate()
    work = [seen for seen in server.seen if not seen.path.endswith(("/progress", "/history"))]
    turns = []
    with counted_apart() as apart:
        for turn in range(runs + 1):
            apart.update(proving_s=0.0, scaling_s=0.0)
            spent = {
                "tier_s": clock(generate),
                **apart,
                "bare_s": clock(lambda: replay(server, work)),
            }
            spent["added_s"] = 2 * spent["tier_s"] - sum(spent.values())
            if turn:
                turns.append(spent)
    figures: Result = {name: spread([turn[name] for turn in turns]) for name in turns[0]}
    return {"requests": len(work), "sent_bytes": sum(len(seen.body) for seen in work), **figures}


@contextmanager
def counted_apart() -> Iterator[dict[str, float]]:
    """Seconds spent on opening what came and on bringing pictures to size, added up as they pass."""
    from svd_local.keyframe import fit, picture
    from svd_local.tiers.remote import video

    spent = {"proving_s": 0.0, "scaling_s": 0.0}
    places: list[tuple[Any, str, str]] = [
        (video, "proven", "proving_s"),
        (picture, "open_picture", "proving_s"),
        (fit, "fit", "scaling_s"),
    ]
    originals = [getattr(module, name) for module, name, _ in places]

    def timed(original: Callable[..., Any], what: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                spent[what] += time.perf_counter() - began

        return call

    try:
        for (module, name, what), original in zip(places, originals, strict=True):
            setattr(module, name, timed(original, what))
        yield spent
    finally:
        for (module, name, _), original in zip(places, originals, strict=True):
            setattr(module, name, original)


def replay(server: Scripted, requests: list[Seen]) -> None:
    """The same requests by a plain client, every answer read to its end."""
    from svd_local.tiers.remote.library import http_library, trust

    with http_library().Client(verify=trust()) as client:
        for seen in requests:
            url = f"{server.url}{seen.path}" + (f"?{seen.query}" if seen.query else "")
            headers = {"content-type": "application/json", "accept-encoding": "identity"}
            answer = client.request(seen.method, url, content=seen.body, headers=headers)
            assert answer.status_code == 200
            assert answer.content


def clock(work: Callable[[], Any]) -> float:
    """Seconds ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def draw_video() -> bytes:
    """An MP4 as a service sends it: a disc that wanders over a gradient."""
    from svd_local.media.encode import encode_video, encoder_settings

    ground = np.asarray(Image.linear_gradient("L").resize(SIZE).convert("RGB"))
    rows, columns = np.ogrid[: SIZE[1], : SIZE[0]]

    def frame(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        picture = ground.copy()
        picture[(rows - 288) ** 2 + (columns - 200 - 20 * number) ** 2 < 90**2] = (230, 200, 60)
        return picture[None]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        encode_video(
            (frame(number) for number in range(FRAMES)),
            source_size=SIZE,
            output_size=SIZE,
            fps=16,
            target=path,
            settings=encoder_settings("standard"),
        )
        return path.read_bytes()


if __name__ == "__main__":
    run(main)
