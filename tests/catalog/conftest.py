from __future__ import annotations

from pathlib import Path

import pytest

from svd_local.catalog import Catalog
from svd_local.result import Attempt, Clip, Correction, Files, Memory, Quality, Timings


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def catalog(root, database_url):
    with Catalog(database_url, root, patience_s=2) as catalog:
        yield catalog


@pytest.fixture
def make_clip(root):
    """Makes the files of a clip and the result that names them."""

    def make(name: str = "sd_video_1", content: bytes = b"video", **fields) -> Clip:
        folder = fields.pop("folder", root / "videos")
        folder.mkdir(parents=True, exist_ok=True)
        files = Files(
            video=folder / f"{name}.mp4",
            poster=folder / f"{name}.jpg",
            manifest=folder / f"{name}.json",
        )
        files.video.write_bytes(content)
        files.poster.write_bytes(b"poster")
        files.manifest.write_bytes(b"{}")
        values = {
            "kind": "generated",
            "path": files.video,
            "tier": "local",
            "attempts": (Attempt("local", "ok", elapsed_s=8.0),),
            "parameters": {"steps": 25, "guidance": [1.0, 3.0]},
            "files": files,
            "checkpoint": "svd-xt",
            "engine": "fused",
            "device": "cuda",
            "speed": "exact",
            "frames": 25,
            "fps": 7.0,
            "width": 1024,
            "height": 576,
            "duration_s": 3.571,
            "seed": 2**63 - 1,
            "elapsed_s": 8.125,
            "corrections": (Correction("frames", 40, 25, "generated clips have at most 25"),),
            "warnings": ("no font has a glyph for that",),
            "memory": Memory("resident", 10, 20, None),
            "timings": Timings(load_s=1.5, denoise_s=6.0),
            "quality": Quality(True, {"black": 0.0}),
            "fingerprint": "f" * 64,
        }
        return Clip(**{**values, **fields})

    return make


@pytest.fixture
def jobs(catalog):
    return catalog.jobs


@pytest.fixture
def enroll(jobs, tmp_path):
    return lambda wanted, name="night": jobs.enroll(name, wanted, folder=tmp_path / "out")


@pytest.fixture
def claim(jobs):
    def claim(batch, worker="w", lease_s=60.0):
        return jobs.claim(batch.id, worker, lease_s=lease_s)

    return claim
