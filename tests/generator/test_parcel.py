"""A clip made in one place and published in another."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from svd_local.catalog import Catalog
from svd_local.errors import LeaseLost, StorageFailed
from svd_local.generator import Delivery, Parcel, VideoGenerator, pack, publish_parcel
from svd_local.request import ClipRequest
from svd_local.result import Clip
from svd_local.settings import Settings

REQUEST = ClipRequest(prompt="a desk", tier="fake", seed=3, steps=1)


@pytest.fixture
def there(settings: Settings, tmp_path: Path) -> Clip:
    """The clip, as it was made elsewhere."""
    far = settings.model_copy(update={"media_dir": tmp_path / "far"})
    with VideoGenerator(far) as generator:
        return generator.generate(REQUEST)


def sent(parcel: Parcel) -> Parcel:
    received = pickle.loads(pickle.dumps(parcel))
    assert isinstance(received, Parcel)
    return received


def test_it_is_published_as_if_made_here(there: Clip, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Catalog(None, settings.media_dir) as catalog:
        clip = publish_parcel(sent(pack(there)), REQUEST, out, Delivery("desk"), catalog)
        assert clip.path == out / "desk.mp4"
        assert clip.path.read_bytes() == there.path.read_bytes()
        assert clip.files.poster == out / "desk.jpg"
        assert clip.id is not None
        stored = catalog.get(clip.id)
        assert (stored.path, stored.fingerprint) == (clip.path, there.fingerprint)
    same = dataclasses.replace(there, path=clip.path, files=clip.files, id=clip.id)
    assert clip == same
    assert sorted(path.name for path in out.iterdir()) == ["desk.jpg", "desk.mp4"]


def test_what_the_commit_refuses_is_taken_back(
    there: Clip, settings: Settings, tmp_path: Path
) -> None:
    def refuse(session: object, clip: Clip) -> None:
        raise LeaseLost("somebody else has it")

    with Catalog(None, settings.media_dir) as catalog:
        with pytest.raises(LeaseLost):
            publish_parcel(pack(there), REQUEST, tmp_path / "out", Delivery(commit=refuse), catalog)
        assert catalog.clips() == []
    assert not (tmp_path / "out").exists()


def test_a_damaged_one_is_not_published(there: Clip, settings: Settings, tmp_path: Path) -> None:
    parcel = pack(there)
    spoilt = {**parcel.contents, ".jpg": b"?" + parcel.contents[".jpg"][1:]}
    with (
        Catalog(None, settings.media_dir) as catalog,
        pytest.raises(StorageFailed, match="damaged"),
    ):
        publish_parcel(
            dataclasses.replace(parcel, contents=spoilt),
            REQUEST,
            tmp_path / "out",
            Delivery(),
            catalog,
        )
    assert not (tmp_path / "out").exists()
