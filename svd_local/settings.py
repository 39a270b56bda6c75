"""The machine: paths, tokens, URLs, budgets. From the environment, or a ``.env`` in the work folder.

What a clip should be is never here; that is the request's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from svd_local.errors import InvalidRequest
from svd_local.request import parse_bytes


def _named(variable: str) -> AliasChoices:
    """A setting that keeps the ecosystem's own name instead of our prefix."""
    return AliasChoices(variable.lower(), variable)


class Settings(BaseSettings):
    """What this machine offers. Frozen; each field's environment variable is in the README.

    Raises:
        InvalidRequest: from ``Settings.load``: a variable holds what it cannot mean.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix="SVD_LOCAL_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
    )

    media_dir: Path = Path("media_output")
    """Media root: ``videos/``, ``images/``, ``catalog.sqlite3`` and the rest live in it."""
    models_dir: Path = Field(default_factory=lambda: _default_models_dir())
    """Checkpoints: ``./models`` where that folder exists, else the user's data folder."""
    checkpoint: str | None = None
    """The checkpoint taken where a request names none."""
    text2image: str | None = None
    """Text-to-image checkpoint (folder or ``org/name``) that turns words into the keyframe."""
    database_url: str | None = Field(None, repr=False)
    """SQLAlchemy URL of the catalog; None is SQLite in the media root."""
    vram_budget: int | None = None
    """Most GPU memory to use, in bytes; text such as ``6GiB`` is understood."""
    kernels: Literal["auto", "all", "none"] = "auto"
    """Our own GPU kernels: where measured to win on this GPU, wherever they can run, or nowhere."""
    disk_reserve: int = 2 * 2**30
    """Bytes a batch leaves free on the disk: it pauses below; text such as ``2GiB`` is understood."""
    allow_download: bool = False
    """Let a missing checkpoint be downloaded when a clip asks for it."""
    allow_remote: bool = False
    """Let ``auto`` send pictures to the Hugging Face tier with any token."""
    hf_model: str = "Wan-AI/Wan2.2-I2V-A14B"
    """The model the Hugging Face tier asks for; SVD itself is hardly served any more."""
    hf_provider: str = "auto"
    """The inference provider the Hugging Face tier goes through."""
    hf_text2image: str | None = "black-forest-labs/FLUX.1-schnell"
    """The model that tier has words painted by, where ``text2image`` is not set; ``none`` for none."""
    enable_fake_tier: bool = False
    fake_seconds: float = Field(0.0, ge=0, le=3600)
    fake_failures: str = ""

    hugging_face_token: SecretStr | None = Field(
        None, validation_alias=_named("HUGGING_FACE_TOKEN")
    )
    """Token that also means consent: with it ``auto`` may use the Hugging Face tier."""
    hf_token: SecretStr | None = Field(None, validation_alias=_named("HF_TOKEN"))
    """The hub's own token: for downloads, and for ``--tier huggingface`` when named."""
    stable_diffusion_local_url: str | None = Field(
        None, repr=False, validation_alias=_named("STABLE_DIFFUSION_LOCAL_URL")
    )
    """Base URL of an A1111-style server; a user name and password may stand in it."""
    stable_diffusion_local_auth: SecretStr | None = Field(
        None, validation_alias=_named("STABLE_DIFFUSION_LOCAL_AUTH")
    )
    """``user:password`` of that server."""

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Settings from keyword arguments, the environment and ``.env``, in that order.

        Raises:
            InvalidRequest: a variable holds what it cannot mean; the error names the variable.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = variable_of(str(first["loc"][0]))
            raise InvalidRequest(
                f"setting {variable}: {first['msg']}",
                hint=f"Correct {variable} in the environment or in .env; README.md lists the settings.",
                field=variable,
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(error) from error

    @property
    def videos_dir(self) -> Path:
        return self.media_dir / "videos"

    @property
    def catalog_place(self) -> str:
        """Where the catalog is, fit to be shown: no password, and no options, which may hold one."""
        if self.database_url is None:
            return str(self.media_dir.absolute() / "catalog.sqlite3")
        parts = urlsplit(self.database_url)
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"

    @property
    def remote_consent(self) -> bool:
        """Whether ``auto`` may send pictures to the Hugging Face tier, should there be any token."""
        return self.hugging_face_token is not None or self.allow_remote

    @property
    def hub_token(self) -> str | None:
        """The token for downloads from the hub, where one is set here."""
        token = self.hugging_face_token or self.hf_token
        return None if token is None else token.get_secret_value().strip()

    @property
    def webui_auth(self) -> str | None:
        """``user:password`` of the A1111-style server, where one is set."""
        auth = self.stable_diffusion_local_auth
        return None if auth is None else auth.get_secret_value().rstrip("\r\n")

    @field_validator("vram_budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        if isinstance(value, (str, int)):
            return parse_bytes(value, field="SVD_LOCAL_VRAM_BUDGET")
        return value

    @field_validator("hf_text2image")
    @classmethod
    def _none(cls, value: str | None) -> str | None:
        return None if value is None or value.strip().lower() == "none" else value

    @field_validator("disk_reserve", mode="before")
    @classmethod
    def _reserve(cls, value: Any) -> Any:
        if value in (0, "0"):  # no reserve
            return 0
        if isinstance(value, (str, int)):
            return parse_bytes(value, field="SVD_LOCAL_DISK_RESERVE")
        return value

    @field_validator("media_dir", "models_dir")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser()


def variable_of(field: str) -> str:
    """The environment variable a field of ``Settings`` is read from."""
    own_name = Settings.model_fields.get(field.lower())
    if own_name is None or own_name.validation_alias is not None:
        return field.upper()
    return f"SVD_LOCAL_{field.upper()}"


def export_ecosystem(env_file: Path = Path(".env")) -> None:
    """Put the ``HF_*`` names of ``.env`` into the environment, where the libraries look for them.

    For programs that own their process, as the command line does. What is set already stays.

    Raises:
        InvalidRequest: the file cannot be read.
    """
    from dotenv import dotenv_values

    if env_file.is_file():
        try:
            values = dotenv_values(env_file)
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(error) from error
        for name, value in values.items():
            if name.startswith("HF_") and value:
                os.environ.setdefault(name, value)


def _unreadable(error: Exception) -> InvalidRequest:
    return InvalidRequest(
        f".env cannot be read: {error}", hint="Repair or remove the file .env.", field=".env"
    )


def _default_models_dir() -> Path:
    here = Path("models")
    if here.is_dir():
        return here
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "svd_local" / "models"
