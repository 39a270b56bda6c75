"""One clip's traffic with Hugging Face's providers: which of them, words to a picture, picture to a video."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.errors import RemoteFailed, SvdLocalError, TierBusy, TierUnavailable
from svd_local.tiers.remote.call import Over
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.hub import Way, through
from svd_local.tiers.remote.library import http_library
from svd_local.tiers.remote.pictures import PictureTaker
from svd_local.tiers.remote.refusals import clean, said_in, what_came

if TYPE_CHECKING:
    from PIL.Image import Image

PROVIDERS = ("fal-ai", "together", "wavespeed")
"""The providers through which the hub serves image-to-video."""
PAINTERS = (*PROVIDERS, "hf-inference")
"""Those through which it serves text-to-image, as far as their protocol is known here."""

_VIDEO, _PICTURE = "image-to-video", "text-to-image"
_SMALL_PICTURE = 44_000
"""Bytes of a picture for Together, which takes 60 kB once they are written as text."""
_LIBRARY_FAILS = (ValueError, RuntimeError, LookupError, TypeError, AttributeError, OSError)
"""What the library raises where a provider's answer is not as it expects."""
_PAINTED_PIXELS = 1024 * 1024
_MULTIPLE = 16


@dataclass(frozen=True, slots=True)
class Made:
    """What a provider sent, and which one it was."""

    provider: str
    data: bytes


@dataclass(frozen=True, slots=True)
class HubWork:
    """Asks through one call's door. Its methods run in the call's thread.

    Raises, from each method:
        TierUnavailable: no provider serves the model.
        TierBusy, RemoteFailed: the provider gave up, or its answer makes no sense.
        And as ``Door.send``.
    """

    door: Door
    token: str
    provider: str
    """The one that was set, or ``auto``."""

    def video(self, model: str, image: Image, asked: Mapping[str, Any]) -> Made:
        """A video that begins with ``image``; ``asked`` are the plan's parameters."""
        provider = self.provider
        if provider == "auto":
            provider = self._choose(model, _VIDEO, PROVIDERS, "SVD_LOCAL_HF_MODEL")
        picture = _as_taken(image, provider)
        with self._client(provider, model, self.door, "SVD_LOCAL_HF_MODEL") as client:
            video = client.image_to_video(
                picture,
                model=model,
                prompt=asked["prompt"],
                num_frames=asked["frames"],
                num_inference_steps=asked["steps"],
                guidance_scale=asked["guidance"],
                seed=_seed(asked["seed"]),
            )
        return Made(provider, video)

    def picture(
        self, model: str, words: str, size: tuple[int, int], seed: int
    ) -> tuple[str, Image]:
        """The provider, and its picture of ``words``: RGB, of about the shape of ``size``."""
        painters: tuple[str, ...] = PAINTERS
        if self.provider in PAINTERS:  # the one that was set first
            painters = (self.provider, *(name for name in PAINTERS if name != self.provider))
        provider = self._choose(model, _PICTURE, painters, "SVD_LOCAL_HF_TEXT2IMAGE")
        width, height = painted_size(size)
        taker = PictureTaker(self.door)
        with self._client(provider, model, taker, "SVD_LOCAL_HF_TEXT2IMAGE") as client:
            client.text_to_image(words, model=model, width=width, height=height, seed=_seed(seed))
        return provider, taker.picture()

    @contextlib.contextmanager
    def _client(self, provider: str, model: str, way: Way, setting: str) -> Iterator[Any]:
        """The library's client, its requests led through ``way`` and its failures turned into ours."""
        from huggingface_hub import InferenceClient

        way = _Overheard(way)
        try:
            with through(way):
                yield InferenceClient(provider=provider, token=self.token)  # type: ignore[arg-type]
        except (SvdLocalError, Over):
            raise
        except TimeoutError as error:
            raise TierBusy(
                f"{provider} gave up: {clean(str(error), (self.token,))}", hint="Try again later."
            ) from None
        except (*_LIBRARY_FAILS, http_library().HTTPError, http_library().InvalidURL) as error:
            words = clean(str(error), (self.token,)) or type(error).__name__
            if isinstance(error, ValueError):
                words = self._of_its_answer(way.last, words)
            elif isinstance(error, (LookupError, TypeError, AttributeError)):
                words = "its answer lacks what its protocol has in it"
            raise RemoteFailed(
                f"{provider} made nothing with {model}: {words}",
                hint=f"Try again, or set SVD_LOCAL_HF_PROVIDER or {setting} to another.",
            ) from None

    def _of_its_answer(self, last: bytes, stumbled: str) -> str:
        """What a provider said last, where the library ``stumbled`` over it: an error with status 200,
        say.
        """
        try:
            document = json.loads(last)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return f"it answered {what_came(last, (self.token,))}"
        inner = document.get("data")
        for part in (document, inner if isinstance(inner, dict) else {}):
            if said := said_in(part, (self.token,)):
                return said
        return f"its answer is not as its protocol has it: {stumbled}"

    def _choose(self, model: str, task: str, known: tuple[str, ...], setting: str) -> str:
        """The first of ``known`` that does ``task`` with ``model``.

        The library's own choice takes the model's first provider, whatever that one does with it.
        """
        route = f"{endpoint()}/api/models/{model}?expand=inferenceProviderMapping"
        document = self.door.json("GET", route)
        mapping = document.get("inferenceProviderMapping") if isinstance(document, dict) else None
        serving = _serving(mapping, task)
        for name in known if task == _PICTURE else serving:
            if name in serving and name in known:
                return name
        raise TierUnavailable(
            f"no provider of Hugging Face serves {model} for {task}",
            hint=f"Set {setting} to a model that one of {', '.join(known)} serves.",
        )


class _Overheard:
    """A way that keeps what came last: the library says where its parser stumbled, not over what."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.last = b"{}"

    def send(self, request: Any) -> Any:
        answer = self._way.send(request)
        self.last = answer.content
        return answer


def endpoint() -> str:
    """The hub's address, or that of the mirror which HF_ENDPOINT names, as the library takes it."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def painted_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size to paint at for a keyframe of ``size``: its shape, as such models take it."""
    scale = min(1.0, (_PAINTED_PIXELS / (size[0] * size[1])) ** 0.5)
    width, height = (max(256, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in size)
    return width, height


def _serving(mapping: Any, task: str) -> list[str]:
    """The providers in a model's mapping that do ``task`` with it. It comes in two shapes."""
    if isinstance(mapping, dict):
        entries = [
            {**entry, "provider": name}
            for name, entry in mapping.items()
            if isinstance(entry, dict)
        ]
    else:
        listed = mapping if isinstance(mapping, list) else []
        entries = [entry for entry in listed if isinstance(entry, dict)]
    return [
        str(entry.get("provider"))
        for entry in entries
        if entry.get("task") == task and entry.get("status") != "error"
    ]


def _seed(seed: int | None) -> int | None:
    """Services take seeds of 32 bits."""
    return None if seed is None else seed % 2**32


def _as_taken(image: Image, provider: str) -> bytes | str:
    """The keyframe as the provider takes it: a JPEG, which is what the library says it is."""
    if provider != "together":
        return _jpeg(image, 95)
    for quality in (90, 75, 60, 45, 30):
        data = _jpeg(image, quality)
        if len(data) <= _SMALL_PICTURE:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg(image: Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
