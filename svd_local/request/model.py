"""ClipRequest: what one clip should be, whatever makes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from svd_local.errors import InvalidRequest
from svd_local.request.sizes import parse_bytes

TierId = Literal["auto", "local", "huggingface", "webui", "image-sequence", "placeholder", "fake"]
TIER_IDS: tuple[str, ...] = get_args(TierId)

_SIZE = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_HINTS = {
    "frames": "Write 14 to 25.",
    "fps": "Write 6, 7 or 8.",
    "duration": "Write the seconds the clip should last, for example 3.5.",
    "steps": "Write 1 to 100; 25 is usual.",
    "cache_interval": "Write 1 to 10; 3 is usual, 1 is exact.",
    "cache_depth": "Write 1 to 11; 1 is fastest.",
    "seed": "Write a whole number from 0 to 9223372036854775807, or leave it out to have one drawn.",
    "motion": "Write 1 to 255; 127 is usual.",
    "noise": "Write 0 to 1; 0.02 is usual.",
    "guidance": "Write MIN:MAX, for example 1.0:3.0.",
    "size": "Write WIDTHxHEIGHT in pixels, for example 1024x576.",
    "tier": f"Write one of {', '.join(TIER_IDS)}.",
    "prompt": "Write at most 2000 characters.",
    "title": "Write at most 200 characters.",
    "caption": "Write at most 400 characters.",
    "background": "Write a colour as #rrggbb.",
    "image": "Give the path or the bytes of one picture.",
    "images": "Give paths or bytes of pictures, 20 at most.",
    "logo": "Give the path of a picture.",
    "out": "Give the path of a folder.",
}


class ClipRequest(BaseModel):
    """What one clip should be. Frozen; equal requests mean equal clips but for an undrawn seed.

    At least one of ``prompt`` and ``image`` is needed. What is left ``None`` takes the default of
    the checkpoint or tier that makes the clip. Values that are out of range but clear are kept here
    as asked and corrected, with a record, by ``generated_parameters`` or ``stills_parameters``,
    which know the checkpoint.

    Raises:
        InvalidRequest: a value means nothing; the error names the field and says what to write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: str | None = Field(None, max_length=2000)
    """Words the clip is about. SVD takes no text: they reach it as a picture."""
    image: Path | bytes | None = None
    """The conditioning picture: a path, or the bytes of a picture file."""
    images: tuple[Path | bytes, ...] = Field((), max_length=20)
    """Further pictures, which the image sequence cross-fades to. Generated clips use ``image``, which
    is the first of these where it is not given."""
    title: str | None = Field(None, max_length=200)
    """Large letters drawn over the finished frames."""
    caption: str | None = Field(None, max_length=400)
    """Small letters below the title."""
    logo: Path | None = None
    """A picture for the upper right corner, drawn over the finished frames."""
    fit: Literal["crop", "pad"] = "crop"
    """How a picture of another shape is brought to size: cover and crop, or pad with its blurred edge."""
    background: str = "#ffffff"
    """What shows through where a picture is transparent, as #rrggbb."""

    tier: TierId = "auto"
    checkpoint: str | None = None
    """Alias, folder or ``org/name``; None takes svd-xt where installed, else svd."""
    engine: Literal["fused", "reference"] | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"

    frames: int | None = None
    """Frames of a generated clip, 14 to 25; None takes the checkpoint's own count."""
    fps: int | None = None
    """Frames a second of a generated clip, 6 to 8; None takes 7."""
    duration: float | None = None
    """Seconds. Animated stills last 4 where None; a generated clip's frame count follows from it."""
    steps: int | None = None
    """Denoising steps, 1 to 100; None takes the quality's."""
    seed: int | None = None
    """Seed of the noise, 0 to 2^63 - 1; None draws one, and the result records it."""
    motion: int | None = None
    """SVD's motion bucket, 1 to 255; None takes 127."""
    noise: float | None = None
    """Noise added to the conditioning picture, 0 to 1; None takes 0.02."""
    guidance: tuple[float, float] | None = None
    """Guidance of the first and of the last frame; None takes 1.0 to 3.0."""
    size: tuple[int, int] | None = None
    """Width and height the model works at, in pixels; None takes the checkpoint's native size."""
    resolution: Literal["native", "720p", "1080p"] = "native"
    """Size of the file: as generated, or its short side scaled to 720 or 1080 pixels."""
    quality: Literal["fast", "standard", "high"] = "standard"
    speed: Literal["exact", "cached", "fp8", "fp8+cached", "distilled"] = "exact"
    """``exact``, or an approximation: ``cached`` reuses the UNet's deep features from step to step,
    ``fp8`` has its wide linear layers in 8 bits, ``fp8+cached`` does both, ``distilled`` takes a UNet
    that was trained for a handful of steps. The result says which."""
    cache_interval: int | None = None
    """With ``cached``: every so manieth step runs as a whole, 1 to 10; None takes 3, 1 is exact."""
    cache_depth: int | None = None
    """With ``cached``: how many layers of the way down are computed on the steps between, from the
    finest, 1 to 11; None takes 1. Deeper is nearer to exact, and slower."""
    compile: bool | None = None
    """Have the fused engine's steps compiled: the first clip of a size takes longer for it. The pixels
    are the same to rounding. None does not, as long as no measurement says that it pays."""
    vram_budget: int | None = None
    """Most GPU memory to use, in bytes; text such as ``4GiB`` is understood."""
    allow_approximate: bool = False
    """Allow steps that change pixels when memory runs out."""

    no_cache: bool = False
    no_remote: bool = False
    out: Path | None = None
    """Folder for the files; None takes the media root's ``videos``."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _explain(error) from None

    @classmethod
    def problems_of(cls, fields: Mapping[str, Any]) -> list[InvalidRequest]:
        """Everything that is wrong with ``fields``, where the constructor raises the first; empty
        where nothing is.
        """
        left = dict(fields)
        found: list[InvalidRequest] = []
        while True:
            try:
                cls.__pydantic_validator__.validate_python(left, self_instance=cls.__new__(cls))
            except ValidationError as error:
                told = error.errors(include_url=False)
                return found + list({one.field: one for one in map(_explained, told)}.values())
            except InvalidRequest as error:  # a validator's own, which ends pydantic's looking
                found.append(error)
                if error.field not in left:
                    return found
                del left[error.field]
            else:
                return found

    def fingerprint(self, ran: Mapping[str, Any]) -> str:
        """SHA-256, in hex, of everything that changes the file's pixels.

        ``ran`` is what the tier says of how it makes the clip: picture digests, checkpoint revision,
        effective parameters, engine, versions. The request adds what is applied after generation:
        its words, letters, output size and encoder setting. Where the clip is stored, whether it
        may be cached and which tier was asked for do not count.
        """
        own = {
            "prompt": self.prompt,
            "title": self.title,
            "caption": self.caption,
            "fit": self.fit,
            "background": self.background.lower(),
            "resolution": self.resolution,
            "quality": self.quality,
        }
        text = json.dumps({"request": own, "ran": ran}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def open_to_others(self) -> bool:
        """Whether a tier may be passed over for the next one. Not where a tier was named; nor a
        checkpoint, which only the first one runs: below it another model would stand in for it.
        """
        return self.tier == "auto" and self.checkpoint is None

    def describe(self) -> dict[str, Any]:
        """The request as JSON-able values, without what was left at its default.

        A picture given as bytes is told by its digest.
        """
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                values[name] = _plain(value)
        return values

    @field_validator("prompt", "title", "caption", mode="after")
    @classmethod
    def _no_blank(cls, text: str | None) -> str | None:
        if text is None:
            return None
        if "\x00" in text:
            raise ValueError("holds a NUL character")
        return text.strip() or None

    @field_validator("image", "images", "logo", "out", mode="before")
    @classmethod
    def _real_path(cls, value: Any) -> Any:
        for path in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(path, (str, Path)) and (not str(path) or "\x00" in str(path)):
                raise ValueError(
                    "an empty path" if not str(path) else "a path with a NUL character"
                )
        return value

    @field_validator("frames")
    @classmethod
    def _enough_frames(cls, frames: int | None) -> int | None:
        if frames is not None and frames < 2:
            raise ValueError(f"{frames} frames make no video")
        return frames

    @field_validator("fps", "steps", "cache_interval", "cache_depth")
    @classmethod
    def _at_least_one(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError(f"{value} is not above zero")
        return value

    @field_validator("duration")
    @classmethod
    def _lasts(cls, seconds: float | None) -> float | None:
        if seconds is not None and seconds <= 0:
            raise ValueError(f"{seconds} is not above zero")
        return seconds

    @field_validator("motion", "noise")
    @classmethod
    def _not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError(f"{value} is below zero")
        return value

    @field_validator("seed")
    @classmethod
    def _seed_range(cls, seed: int | None) -> int | None:
        if seed is not None and not 0 <= seed < 2**63:
            raise ValueError(f"{seed} is no seed")
        return seed

    @field_validator("guidance", mode="before")
    @classmethod
    def _guidance_pair(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = value.split(":")
            value = tuple(parts if len(parts) == 2 else parts * 2 if len(parts) == 1 else parts)
        return value

    @field_validator("guidance")
    @classmethod
    def _guidance_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and min(value) < 0:
            raise ValueError(f"{min(value)} is below zero")
        return value

    @field_validator("size", mode="before")
    @classmethod
    def _size_pair(cls, value: Any) -> Any:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match is None:
                raise ValueError(f"{value[:40]!r} is no size")
            return int(match[1]), int(match[2])
        return value

    @field_validator("size")
    @classmethod
    def _size_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not all(64 <= side <= 2048 for side in value):
            raise ValueError(f"{value[0]}x{value[1]} is outside 64 to 2048 pixels a side")
        return value

    @field_validator("background")
    @classmethod
    def _colour(cls, value: str) -> str:
        if not _COLOUR.fullmatch(value):
            raise ValueError(f"{value[:40]!r} is no colour")
        return value

    @field_validator("vram_budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        return parse_bytes(value, field="vram_budget") if isinstance(value, (str, int)) else value

    @model_validator(mode="before")
    @classmethod
    def _first_picture(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Pictures given as ``images`` alone: the first of them is ``image``."""
        pictures = values.get("images")
        if values.get("image") is None and isinstance(pictures, (list, tuple)) and pictures:
            return {**values, "image": pictures[0], "images": tuple(pictures[1:])}
        return values

    @model_validator(mode="after")
    def _something_to_show(self) -> Self:
        if self.prompt is None and self.image is None:
            raise InvalidRequest(
                "neither a prompt nor an image was given",
                hint="Say what the clip is about with --prompt, or give a picture with --image.",
                field="prompt",
            )
        return self


def _explain(error: ValidationError) -> InvalidRequest:
    """The first thing pydantic found wrong, in our words."""
    return _explained(error.errors(include_url=False)[0])


def _explained(first: ErrorDetails) -> InvalidRequest:
    """One thing pydantic found wrong, in our words."""
    field = str(first["loc"][0]) if first["loc"] else None
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = ", ".join(ClipRequest.model_fields)
        return InvalidRequest(
            f"{field}: no such field", hint=f"The fields are {known}.", field=field
        )
    if first["type"] == "string_unicode":
        return InvalidRequest(
            f"{field}: holds bytes that are no UTF-8, as the names of files may",
            hint="Write the text in UTF-8; a file whose name goes into it is renamed first.",
            field=field,
        )
    allowed = first.get("ctx", {}).get("expected")
    hint = _HINTS.get(field or "", f"Write one of {allowed}." if allowed else "")
    return InvalidRequest(f"{field}: {what}" if field else what, hint=hint, field=field)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return "sha256:" + hashlib.sha256(value).hexdigest()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
