"""What runs on a node: orders in, clips or reasons out."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from svd_local import __version__
from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.home import Home
from svd_local.batch.ray.values import Broke, Failed, House, Known, Made, Order, order_of, sorts_of
from svd_local.catalog.jobs import Job
from svd_local.errors import DeviceLost, ImageRejected, TierFailed
from svd_local.generator import VideoGenerator
from svd_local.request import ClipRequest
from svd_local.settings import Settings
from svd_local.storage import lock

FAKE = Order({"prompt": "a desk", "tier": "fake", "seed": 7, "steps": 2})
Hire = Callable[..., Actor]


@pytest.fixture
def hire(machine: Settings) -> Iterator[Hire]:
    """Starts actors, and ends them after the test."""
    actors: list[Actor] = []

    def call(settings: Settings = machine, *sorts: dict[str, str], **house: object) -> Actor:
        found = House.of(settings, __version__, sorts, gpu=False)
        actors.append(Actor(dataclasses.replace(found, **house)))
        return actors[-1]

    yield call
    for actor in actors:
        actor.close()


def made(actor: Actor, order: Order, known: bool = False) -> object:
    """What comes of an order, its question answered."""
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            if actor.hear("t").question is not None:
                actor.answer("t", known)

    listener = threading.Thread(target=answer)
    listener.start()
    try:
        return actor.make("t", order)
    finally:
        over.set()
        listener.join()


def test_a_clip_comes_back_whole_and_leaves_nothing(hire: Hire, tmp_path: Path) -> None:
    outcome = made(hire(), FAKE)
    assert isinstance(outcome, Made)
    assert set(outcome.parcel.contents) == {".mp4", ".jpg"}
    assert outcome.parcel.clip.files.video is None
    [home] = (tmp_path / "node").glob("svd-local-ray-*")
    assert list((home / "orders").iterdir()) == []


def test_what_the_driver_has_is_not_made(hire: Hire) -> None:
    outcome = made(hire(), Order({**FAKE.fields, "frames": 99}), known=True)
    assert isinstance(outcome, Known)
    assert [one.field for one in outcome.corrections] == ["frames"]


def test_progress_is_told_by_stages(hire: Hire, machine: Settings) -> None:
    actor = hire(machine.model_copy(update={"fake_seconds": 0.5}))
    stages: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            heard = actor.hear("t")
            stages.extend(one.stage for one in heard.progress)
            if heard.question:
                actor.answer("t", False)

    thread = threading.Thread(target=listen)
    thread.start()
    actor.make("t", FAKE)
    over.set()
    thread.join()
    assert stages.index("keyframe") < stages.index("denoise")


def test_a_cancelled_order_ends(hire: Hire, machine: Settings) -> None:
    actor = hire(machine.model_copy(update={"fake_seconds": 60.0}))
    timer = threading.Timer(0.3, actor.cancel, ("t",))
    timer.start()
    outcome = actor.make("t", FAKE)  # it waits for an answer to its question, which never comes
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "cancelled"


def test_errors_are_handed_over_with_all_they_say(hire: Hire, machine: Settings) -> None:
    outcome = made(hire(machine.model_copy(update={"fake_failures": "failed"})), FAKE)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TierFailed)
    outcome = made(hire(), Order({**FAKE.fields, "image": b"no picture"}))
    assert isinstance(outcome, Failed)
    assert (type(outcome.error), outcome.error.field) == (ImageRejected, "image")


class _Breaks(VideoGenerator):
    error: Exception

    def generate(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        raise self.error


def test_a_bug_is_told_in_words_and_a_lost_gpu_ends_the_process(
    machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr("svd_local.batch.ray.actor._LAST_WORDS_S", 0.01)
    monkeypatch.setattr("os._exit", lambda status: ended.set())
    actor = Actor(House.of(machine, __version__, (), gpu=False), _Breaks)
    _Breaks.error = KeyError("lost")
    assert actor.make("t", FAKE) == Broke("KeyError: 'lost'")
    assert not ended.is_set()
    _Breaks.error = DeviceLost("an assert in a kernel")
    assert isinstance(actor.make("t", FAKE), Failed)
    assert ended.wait(5)
    actor.close()


def test_pictures_and_logo_travel_as_bytes_and_make_the_same_clip(
    hire: Hire, machine: Settings, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 36), "teal").save(tmp_path / "desk.png")
    Image.new("RGBA", (8, 8), "red").save(tmp_path / "logo.png")
    request = ClipRequest(
        image=tmp_path / "desk.png",
        logo=tmp_path / "logo.png",
        out=tmp_path / "out",
        **{**FAKE.fields, "prompt": None},
    )
    order = order_of(request)
    assert "out" not in order.fields
    for name in ("desk.png", "logo.png"):
        here = machine.model_copy(update={"media_dir": tmp_path / "here"})
        if name == "desk.png":
            with VideoGenerator(here) as generator:
                local = generator.generate(request)
        (tmp_path / name).unlink()
    outcome = made(hire(), order)
    assert isinstance(outcome, Made)
    assert outcome.parcel.clip.fingerprint == local.fingerprint
    assert outcome.parcel.contents[".mp4"] == local.path.read_bytes()


def test_a_missing_picture_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ImageRejected, match=r"gone\.png"):
        order_of(ClipRequest(image=tmp_path / "gone.png"))


def test_settings_of_the_clip_are_the_drivers_and_those_of_the_machine_the_nodes(
    machine: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Settings] = []

    def make(settings: Settings) -> VideoGenerator:
        seen.append(settings)
        return VideoGenerator(settings)

    monkeypatch.setenv("HF_TOKEN", "of-the-node")
    driver = machine.model_copy(update={"hf_token": None, "checkpoint": "svd", "fake_seconds": 3.0})
    house = House.of(driver, __version__, (), gpu=False)
    assert not {"hf_token", "hugging_face_token", "database_url"} & set(house.settings)
    Actor(house, make).close()
    monkeypatch.delenv("SVD_LOCAL_MODELS_DIR")
    Actor(house, make).close()
    named, shared = seen
    assert (named.checkpoint, named.fake_seconds) == ("svd", 3.0)
    assert named.hf_token is not None
    assert named.hf_token.get_secret_value() == "of-the-node"
    assert (named.models_dir, shared.models_dir) == (tmp_path / "models", tmp_path)
    assert named.media_dir.parent == tmp_path / "node"


def test_a_node_that_can_make_none_of_the_clips_says_so(hire: Hire, machine: Settings) -> None:
    lacks = machine.model_copy(update={"enable_fake_tier": False})
    svd = {"tier": "local", "checkpoint": "svd", "device": "cpu"}
    unfit = hire(lacks, {"tier": "fake"}, svd).hello().unfit
    assert unfit is not None
    assert "SVD_LOCAL_ENABLE_FAKE_TIER" in unfit
    assert hire(lacks, {"tier": "fake"}, {"tier": "image-sequence"}).hello().unfit is None
    assert hire(lacks, {}).hello().unfit is None  # without a GPU, auto is stills as ever
    other = hire(version="0.0.1").hello().unfit
    assert other is not None
    assert "0.0.1" in other


def test_the_homes_of_killed_actors_are_swept(tmp_path: Path) -> None:
    ground = tmp_path / "node"
    alive = Home(ground)
    dead = Home(ground)
    dead._lock.release()
    (ground / "svd-local-ray-newborn").mkdir()
    (tmp_path / "precious").mkdir()
    (ground / "svd-local-ray-link").symlink_to(tmp_path / "precious")
    os.utime(tmp_path / "precious", (0, 0))
    spared = {"svd-local-ray-newborn", "svd-local-ray-link"}
    third = Home(ground)
    left = {path.name for path in ground.iterdir()}
    assert left == {alive.folder.name, third.folder.name} | spared
    third._lock.release()
    alive.close()
    assert {path.name for path in ground.iterdir()} == spared
    assert list((tmp_path / "precious").iterdir()) == []


def test_a_home_that_is_swept_while_it_is_born_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, held = lock._hold, []

    def sweeper_first(path: Path) -> int | None:
        if not held:
            held.append(path)
            hold(path)  # for good
        return hold(path)

    monkeypatch.setattr(lock, "_hold", sweeper_first)
    ground = tmp_path / "births"
    ground.mkdir()
    home = Home(ground)
    assert home.folder != held[0].parent
    assert list(ground.iterdir()) == [home.folder]
    home.close()


def test_sorts_are_told_once(job: Callable[..., Job]) -> None:
    jobs = [job(checkpoint="svd"), job(checkpoint="svd"), job(checkpoint=None)]
    assert sorts_of(jobs) == ({"tier": "fake", "checkpoint": "svd"}, {"tier": "fake"})


@pytest.fixture
def job() -> Callable[..., Job]:
    def call(**fields: object) -> Job:
        given = {"prompt": "a", "tier": "fake", **fields}
        values = {field.name: None for field in dataclasses.fields(Job)}
        return Job(**{**values, "fields": given})

    return call
