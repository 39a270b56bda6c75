"""What the driver and its actors say to one another. Plain values, that pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_local.batch.workers.protocol import settings_document
from svd_local.catalog.jobs import Job
from svd_local.errors import SvdLocalError
from svd_local.generator import Parcel
from svd_local.request import ClipRequest
from svd_local.result import Correction, Progress
from svd_local.settings import Settings
from svd_local.tiers.gpus import Gpu

_THE_NODES_OWN = (
    *("media_dir", "models_dir", "database_url", "vram_budget", "disk_reserve"),
    *("hugging_face_token", "hf_token"),
    *("stable_diffusion_local_url", "stable_diffusion_local_auth"),
)
"""Settings that say what a machine has; the others decide which clip is made, and are the driver's.
Tokens are among them: none travels through the cluster."""

_SORTS = ("tier", "checkpoint", "engine", "device", "speed")
"""Fields that decide whether a machine can make a clip at all."""


@dataclass(frozen=True, slots=True)
class House:
    """How an actor is set up."""

    version: str
    """The driver's svd_local."""
    settings: Mapping[str, Any]
    """The driver's settings, but for what each node has of its own."""
    models_dir: Path
    """The driver's, taken where the node names none and has this one."""
    gpu: bool
    """Whether the actor has a GPU to itself."""
    sorts: tuple[Mapping[str, Any], ...] = ()
    """The sorts of clips it is to make; one that can make none of them is of no use."""

    @classmethod
    def of(
        cls, settings: Settings, version: str, sorts: tuple[Mapping[str, Any], ...], *, gpu: bool
    ) -> House:
        """The house of a driver with ``settings``."""
        document = settings_document(settings)
        shared = {name: v for name, v in document.items() if name not in _THE_NODES_OWN}
        return cls(version, shared, settings.models_dir.absolute(), gpu, sorts)


@dataclass(frozen=True, slots=True)
class Hello:
    """An actor is up."""

    node: str
    """The node's address."""
    pid: int
    log: Path
    """What it prints, on its node."""
    gpu: Gpu | None
    unfit: str | None = None
    """Why it can make none of the clips."""


@dataclass(frozen=True, slots=True)
class Order:
    """One clip to make: the request's fields, pictures as their bytes, ``out`` left out."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """The clip."""

    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Known:
    """It was not made: the driver's catalog has it."""

    fingerprint: str
    corrections: tuple[Correction, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """It was not made, and ``error`` says why."""

    error: SvdLocalError


@dataclass(frozen=True, slots=True)
class Broke:
    """A bug: an error that is none of ours, in words, for its class may not be known to the driver."""

    error: str


Outcome = Made | Known | Failed | Broke


@dataclass(frozen=True, slots=True)
class Heard:
    """What happened to an order since the last time."""

    progress: tuple[Progress, ...] = ()
    question: str | None = None
    """A fingerprint: is there such a clip? It waits for ``Actor.answer``."""
    alive: bool = False
    """Whether whoever makes it reported, or asked whether it is still wanted."""


def order_of(request: ClipRequest) -> Order:
    """``request`` as an order, its pictures read.

    Raises:
        ImageRejected: one cannot be read, or is larger than 64 MB.
    """
    from svd_local.keyframe.picture import read_picture

    usual = type(request).model_fields
    fields = {
        name: getattr(request, name)
        for name in usual
        if name != "out" and getattr(request, name) != usual[name].default
    }
    for name in ("image", "logo"):
        if name in fields:
            fields[name] = read_picture(fields[name], field=name)
    if "images" in fields:
        fields["images"] = tuple(read_picture(one, field="images") for one in fields["images"])
    return Order(fields)


def sorts_of(jobs: Iterable[Job]) -> tuple[Mapping[str, Any], ...]:
    """The sorts of clips among ``jobs``, each once: what decides whether a machine can make them."""
    found: list[Mapping[str, Any]] = []
    for job in jobs:
        sort = {name: job.fields[name] for name in _SORTS if job.fields.get(name) is not None}
        if sort not in found:
            found.append(sort)
    return tuple(found)
