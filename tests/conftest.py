"""What every test may rely on: no network tokens, a machine of its own, no user's files."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers.databases import VARIABLE, emptied
from servers.postgres import binaries, cluster

from svd_local.settings import Settings, variable_of

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell: programs under test would inherit that, and never hear Ctrl-C.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module", autouse=True)
def _old_is_not_swept_again() -> None:
    """What is there before a module's tests, the libraries above all, is left out of later collections.

    The engine asks for one wherever it lets go of a network, and over all of torch each takes a third
    of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with ``tiny-svd``, one for all workers of a run: making it is atomic."""
    import torch

    from svd_local.engine import tiny

    torch.set_num_threads(1)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    tiny.ensure(shared / "tiny-models")
    return shared / "tiny-models"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of the tests' own; skips where its programs are missing."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    with cluster(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The setting that names the catalog's database, on each kind in turn; the database is empty."""
    if request.param == "sqlite":
        return None
    return emptied(request.getfixturevalue("postgres"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On which kind ``database_of`` names a folder's own database, also in a test's own processes.

    Most of such tests are on PostgreSQL only in the long run.
    """
    kind = str(request.param)
    if kind == "postgresql":
        monkeypatch.setenv(VARIABLE, request.getfixturevalue("postgres"))
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
    return kind


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A machine with an empty media root below ``tmp_path``."""
    return Settings.load(media_dir=tmp_path / "media", enable_fake_tier=True)


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[Path]:
    """After the test, the media root holds no file, not even a catalog."""
    media = tmp_path / "media"
    yield media
    assert [path for path in media.rglob("*") if path.is_file()] == []


@pytest.fixture(scope="session")
def service_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP4 of 9 frames of 128x72 at 16 a second."""
    from svd_local.media.encode import encode_video, encoder_settings

    path = tmp_path_factory.mktemp("service") / "video.mp4"
    frames = (np.full((1, 72, 128, 3), 20 * n, np.uint8) for n in range(9))
    encode_video(
        frames,
        source_size=(128, 72),
        output_size=(128, 72),
        fps=16,
        target=path,
        settings=encoder_settings("fast"),
    )
    return path.read_bytes()
