"""Pulls from a hub on the loopback, through the real huggingface_hub."""

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import model_hub
from servers.model_hub import REPO, Handler, Hub

from svd_local.engine import download
from svd_local.engine.checkpoints import resolve
from svd_local.engine.download import Offer, pull
from svd_local.engine.hub import RemoteFile
from svd_local.engine.verify import verify
from svd_local.errors import (
    CheckpointBroken,
    CheckpointGated,
    CheckpointOffline,
    CheckpointUnavailable,
    CheckpointUnknown,
    DiskFull,
)

Make = Callable[..., Path]

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def hub(tmp_path: Path, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    folder = make_checkpoint(tmp_path / "remote", fill=7)
    make_checkpoint(folder, variant=None, fill=7)
    (folder / "svd_image_decoder.safetensors").write_bytes(b"the single file")
    (folder / "README.md").write_text("words")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    hub = Hub(folder)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("OneHub", (Handler,), {"hub": hub})
    )
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_a_pull_fetches_what_is_needed_and_no_more(hub: Hub, models: Path) -> None:
    offers: list[Offer] = []
    progress: list[tuple[int, int, str]] = []

    pulled = pull(
        "svd",
        models,
        endpoint=hub.endpoint,
        on_offer=offers.append,
        on_progress=lambda *step: progress.append(step),
    )

    files = {p.relative_to(models / "svd").as_posix() for p in (models / "svd").rglob("*.*")}
    assert files == {
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "image_encoder/config.json",
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
        UNET,
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "image_encoder/model.fp16.safetensors",
        "svd_local.lock.json",
    }
    assert (pulled.name, pulled.repo, pulled.commit) == ("svd", REPO, hub.commit)
    assert verify(pulled, checksums=True) == []
    [offer] = offers
    assert offer.total_bytes == offer.missing_bytes == progress[-1][0] == progress[-1][1]
    assert offer.licence
    assert json.dumps(offer.to_json())
    assert [done for done, *_ in progress] == sorted(done for done, *_ in progress)


def test_an_offer_writes_nothing_and_can_be_refused(hub: Hub, models: Path) -> None:
    assert offer_of(REPO, hub, models).licence_url.startswith("https://")

    assert not models.exists()
    assert len(hub.requests) == 1


def test_what_is_here_is_not_fetched_again(hub: Hub, models: Path) -> None:
    pull("svd", models, endpoint=hub.endpoint)
    hub.requests.clear()

    pull("svd", models, endpoint=hub.endpoint)

    assert [path for path, *_ in hub.requests] == [f"/api/models/{REPO}"]
    assert offer_of("svd", hub, models).missing_bytes == 0


def test_a_broken_connection_is_picked_up_where_it_broke(hub: Hub, models: Path) -> None:
    hub.cut_after[UNET] = 50

    pulled = pull("svd", models, endpoint=hub.endpoint)

    assert hub.asked_for(UNET) == [None, "bytes=50-"]
    assert verify(pulled, checksums=True) == []


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_an_interrupted_pull_goes_on_in_the_next(
    hub: Hub, models: Path, ignores_ranges: bool
) -> None:
    hub.cut_after[UNET] = 60

    def stop(_done: int, _total: int, file: str) -> None:
        if file == UNET and (models / ".partial" / "svd" / f"{UNET}.part").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("svd", models, endpoint=hub.endpoint, on_progress=stop)
    assert not (models / "svd").exists()
    missing = offer_of("svd", hub, models).missing_bytes
    hub.requests.clear()
    hub.ignores_ranges = ignores_ranges
    progress: list[int] = []

    pulled = pull(
        "svd", models, endpoint=hub.endpoint, on_progress=lambda done, *_: progress.append(done)
    )

    assert hub.asked_for(UNET) == ["bytes=60-"]
    assert hub.asked_for("model_index.json") == []
    assert 0 < missing < sum(file.size for file in select_of(hub, models))
    assert verify(pulled, checksums=True) == []
    assert progress[-1] == sum(file.size for file in select_of(hub, models))


def offer_of(name: str, hub: Hub, models: Path) -> Offer:
    """What a pull would do, which is refused."""
    offers: list[Offer] = []

    def refuse(offer: Offer) -> None:
        offers.append(offer)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(name, models, endpoint=hub.endpoint, on_offer=refuse)
    return offers[0]


def select_of(hub: Hub, models: Path) -> tuple[RemoteFile, ...]:
    return offer_of("svd", hub, models).files


def test_a_damaged_installation_is_repaired_with_what_is_damaged(hub: Hub, models: Path) -> None:
    pull("svd", models, endpoint=hub.endpoint)
    (models / "svd" / UNET).write_bytes(b"damaged")
    hub.requests.clear()

    pulled = pull("svd", models, endpoint=hub.endpoint)

    fetched = [path.rpartition(f"{hub.commit}/")[2] for path, *_ in hub.requests[1:]]
    assert fetched == [UNET]
    assert verify(pulled, checksums=True) == []


def test_an_update_that_fails_leaves_what_was_installed(hub: Hub, models: Path) -> None:
    before = pull("svd", models, endpoint=hub.endpoint)
    (hub.folder / UNET).write_bytes((hub.folder / UNET).read_bytes()[::-1])
    hub.wrong = {UNET}
    hub.commit = "6" * 40

    with pytest.raises(CheckpointBroken):
        pull("svd", models, endpoint=hub.endpoint)

    assert resolve("svd", models) == before
    assert verify(before, checksums=True) == []


def test_bytes_that_arrive_damaged_are_thrown_away(hub: Hub, models: Path) -> None:
    hub.wrong = {UNET}

    with pytest.raises(CheckpointBroken, match="arrived damaged"):
        pull("svd", models, endpoint=hub.endpoint)

    assert not (models / "svd").exists()
    assert not list(models.rglob("*.part"))
    hub.wrong = set()
    assert verify(pull("svd", models, endpoint=hub.endpoint), checksums=True) == []


def test_without_half_precision_the_plain_weights_are_taken(hub: Hub, models: Path) -> None:
    (hub.folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").unlink()

    pulled = pull("svd", models, endpoint=hub.endpoint)

    names = sorted(path.name for path in (models / "svd").rglob("*.safetensors"))
    assert not any("fp16" in name for name in names)
    assert len(names) == 3
    assert verify(pulled) == []


def test_pickles_only_is_refused_before_anything_is_fetched(hub: Hub, models: Path) -> None:
    for path in hub.folder.glob("unet/*.safetensors"):
        path.unlink()

    with pytest.raises(CheckpointBroken, match="no safetensors weights for unet; pickles"):
        pull("svd", models, endpoint=hub.endpoint)

    assert not models.exists()


def test_a_gated_one_says_where_to_accept_and_then_works(hub: Hub, models: Path) -> None:
    hub.state = "gated"

    with pytest.raises(CheckpointGated) as refused:
        pull("svd", models, endpoint=hub.endpoint)
    assert f"https://huggingface.co/{REPO}" in refused.value.hint
    assert not (models / "svd").exists()

    assert pull("svd", models, token="accepted", endpoint=hub.endpoint).name == "svd"


def test_what_the_hub_does_not_know_is_unknown(hub: Hub, models: Path) -> None:
    for name in ("somebody/nothing", "not/a/name", "svdxt", "../escape", "a/.."):
        with pytest.raises(CheckpointUnknown):
            pull(name, models, endpoint=hub.endpoint)

    assert not models.exists()


def test_out_of_reach_is_offline(models: Path, hub: Hub) -> None:
    with pytest.raises(CheckpointOffline, match="cannot be reached"):
        pull("svd", models, endpoint="http://127.0.0.1:9")
    hub.state = "busy"
    with pytest.raises(CheckpointOffline, match="answered 503"):
        pull("svd", models, endpoint=hub.endpoint)


def test_switched_off_is_offline(models: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(CheckpointOffline, match="HF_HUB_OFFLINE is set"):
        pull("svd", models, endpoint=hub.endpoint)

    assert hub.requests == []


def test_a_full_disk_is_seen_beforehand(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(models.parent)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DiskFull, match="svd needs"):
        pull("svd", models, endpoint=hub.endpoint)

    assert len(hub.requests) == 1


def test_what_is_made_here_needs_no_hub(tiny_models: Path, tmp_path: Path) -> None:
    assert pull("tiny-svd", tiny_models, endpoint="http://127.0.0.1:9").synthetic
    assert pull("synthetic:svd", tmp_path, endpoint="http://127.0.0.1:9").path is None


def test_names_that_lead_out_of_the_folder_are_never_taken(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Handler.listing

    def with_escape(self: Handler) -> dict[str, Any]:
        answer = listing(self)
        for name in (
            "../escape.json",
            "/abs.json",
            "unet/../../x.json",
            "a/b/c.json",
            ".git/x.json",
        ):
            answer["siblings"].append({"rfilename": name, "size": 1, "blobId": "0" * 40})
        return answer

    monkeypatch.setattr(Handler, "listing", with_escape)

    pull("svd", models, endpoint=hub.endpoint)

    asked = [path.rpartition(f"{hub.commit}/")[2] for path, *_ in hub.requests]
    assert "model_index.json" in asked
    assert not {"x.json", "escape.json", "abs.json", "c.json"} & {Path(name).name for name in asked}


def test_a_commit_that_moved_on_replaces_the_old_one(hub: Hub, models: Path) -> None:
    before = pull("svd", models, endpoint=hub.endpoint).revision
    (hub.folder / "scheduler" / "scheduler_config.json").write_text('{"newer": 1}')
    hub.commit = "6" * 40

    pulled = pull("svd", models, endpoint=hub.endpoint)

    assert pulled.commit == "6" * 40
    assert pulled.revision != before
    assert resolve("svd", models) == pulled
    assert [p.name for p in (models / ".partial").iterdir() if p.is_dir()] == []


def test_of_a_distilled_one_only_its_file_is_fetched(
    hub: Hub, models: Path, make_safetensors: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_hub, "REPO", "wangfuyun/AnimateLCM-SVD-xt")
    name = "AnimateLCM-SVD-xt.safetensors"
    (hub.folder / name).write_bytes(make_safetensors({"conv_in.weight": [4, 8]}, 3))
    (hub.folder / "AnimateLCM-SVD-xt-1.1.safetensors").write_bytes(b"another one")
    offers: list[Offer] = []

    pulled = pull("animatelcm-svd-xt", models, endpoint=hub.endpoint, on_offer=offers.append)

    folder = models / "animatelcm-svd-xt"
    assert {path.name for path in folder.iterdir()} == {name, "svd_local.lock.json"}
    assert [file.name for file in offers[0].files] == [name]
    assert "svd-xt" in (offers[0].licence or "")
    assert (pulled.name, pulled.path, pulled.base) == ("animatelcm-svd-xt", folder, None)
    with pytest.raises(CheckpointUnavailable, match="svd-xt, which is not installed"):
        resolve("animatelcm-svd-xt", models)

    hub.requests.clear()
    pull("wangfuyun/AnimateLCM-SVD-xt", models, endpoint=hub.endpoint)
    assert hub.asked_for(name) == []
    (hub.folder / name).unlink()
    with pytest.raises(CheckpointBroken, match="any more"):
        pull("animatelcm-svd-xt", models / "other", endpoint=hub.endpoint)
