"""Talking to the hub: what a repository holds, and one file of it, resumable and checked.

The only place of the engine that opens a connection. huggingface_hub's own downloads start a file
over after an interruption, which for three gigabytes on a bad line can mean never; so its client,
its headers and its errors are used here, and the bytes are written by us.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_local.errors import (
    CheckpointBroken,
    CheckpointGated,
    CheckpointOffline,
    CheckpointUnavailable,
    CheckpointUnknown,
)

OnBytes = Callable[[int], None]
"""Told how many bytes just came (negative where some have to come again). May raise to stop."""

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_BLOCK = 2**20
_TRIES = 4
"""How often a connection may break without a byte gained."""
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository. Large ones have a SHA-256, others the hash git gives them."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class Repository:
    """What the hub says of a repository at its newest commit."""

    repo: str
    commit: str
    licence: str | None
    gated: bool
    files: tuple[RemoteFile, ...]


def look_up(repo: str, *, token: str | None, endpoint: str | None = None) -> Repository:
    """Files, sizes and licence of ``repo``.

    Raises:
        CheckpointUnknown: there is no such repository, or it is private.
        CheckpointGated: it may not even be listed.
        CheckpointOffline: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with failures_of(repo):
        info = HfApi(endpoint=endpoint, token=token).model_info(repo, files_metadata=True)
    card: Any = info.card_data or {}
    licence = card.get("license_name") or card.get("license")
    files = tuple(
        RemoteFile(
            name=one.rfilename,
            size=one.size or 0,
            sha256=one.lfs.sha256 if one.lfs else None,
            git_sha1=None if one.lfs else one.blob_id,
        )
        for one in info.siblings or ()
        if _SAFE.fullmatch(one.rfilename)
    )
    return Repository(repo, info.sha or "main", licence, bool(info.gated), files)


def fetch(
    repository: Repository,
    file: RemoteFile,
    target: Path,
    *,
    token: str | None,
    on_bytes: OnBytes,
    endpoint: str | None = None,
) -> None:
    """Bring ``file`` to ``target``, going on where an earlier call was cut off.

    What has come so far lies beside it as ``.part``; ``target`` appears whole and checked.

    Raises:
        CheckpointBroken: the bytes do not have the checksum the hub names; they are thrown away.
        CheckpointGated, CheckpointUnknown, CheckpointOffline: as ``look_up``.
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    on_bytes(part.stat().st_size if part.exists() else 0)
    with failures_of(repository.repo):
        _receive(repository, file, part, token, on_bytes, endpoint)
    if not matches(part, file):
        part.unlink()
        raise CheckpointBroken(
            f"{file.name} of {repository.repo} arrived damaged: its checksum is not the hub's",
            hint="Pull again; if it stays so, a proxy in between may change files.",
            field="checkpoint",
        )
    part.replace(target)


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether ``path`` holds exactly ``file``, by size and checksum."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256 is not None:
        digest, expected = hashlib.sha256(), file.sha256
    elif file.git_sha1 is not None:
        # git's own object name, by which the hub knows small files; not used to keep secrets.
        digest, expected = hashlib.sha1(usedforsecurity=False), file.git_sha1
        digest.update(f"blob {file.size}\0".encode())
    else:
        return True
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == expected


@contextlib.contextmanager
def failures_of(repo: str) -> Iterator[None]:
    """Turn what huggingface_hub and the HTTP library under it raise into our errors."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:  # is a RepositoryNotFoundError, so it comes first
        raise _gated(repo) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointUnknown(
            f"the hub has no repository {repo}, or it is private",
            hint="Check the name; for a private one set HF_TOKEN.",
            field="checkpoint",
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointOffline(
            f"{repo} would have to be downloaded, and HF_HUB_OFFLINE is set",
            hint="Unset HF_HUB_OFFLINE, or copy the checkpoint into the models folder.",
            field="checkpoint",
        ) from error
    except errors.HfHubHTTPError as error:
        raise _answered(repo, error.response.status_code) from error
    except (_http_error(), errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise CheckpointOffline(
            f"the hub cannot be reached for {repo}: {error}",
            hint="Check the connection and pull again; what has come so far is kept.",
            field="checkpoint",
        ) from error


def _receive(
    repository: Repository,
    file: RemoteFile,
    part: Path,
    token: str | None,
    on_bytes: OnBytes,
    endpoint: str | None,
) -> None:
    """Fill ``part`` up to the file's size; a broken connection is picked up while bytes still come."""
    from huggingface_hub import errors, hf_hub_url

    url = hf_hub_url(repository.repo, file.name, revision=repository.commit, endpoint=endpoint)
    failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > file.size:
            on_bytes(-have)
            part.unlink()
            have = 0
        if have == file.size and part.exists():
            return
        try:
            _stream(url, part, have, token, on_bytes)
        except errors.HfHubHTTPError:
            raise
        except _http_error():
            gained = part.exists() and part.stat().st_size > have
            failures = 0 if gained else failures + 1
            if failures >= _TRIES:
                raise
        else:
            if part.stat().st_size < file.size:
                failures += 1
                if failures >= _TRIES:
                    raise ConnectionError(f"{file.name} ends early, again and again")


def _stream(url: str, part: Path, have: int, token: str | None, on_bytes: OnBytes) -> None:
    """One request: the bytes from ``have`` on, appended to ``part``."""
    # Public, but huggingface_hub's type information does not mark them so.
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S
    ) as response:
        hf_raise_for_status(response)
        resumed = response.status_code == 206
        if have and not resumed:
            on_bytes(-have)
        with part.open("ab" if resumed else "wb") as stream:
            # As they arrive: gathered into larger blocks, a broken connection would lose one.
            for block in response.iter_bytes():
                stream.write(block)
                on_bytes(len(block))


def _answered(repo: str, status: int) -> CheckpointUnavailable:
    if status in (401, 403):
        return _gated(repo)
    if status == 404:
        return CheckpointUnknown(
            f"the hub has no such file in {repo}", hint="Pull again.", field="checkpoint"
        )
    return CheckpointOffline(
        f"the hub answered {status} for {repo}",
        hint="Pull again later; what has come so far is kept.",
        field="checkpoint",
    )


def _gated(repo: str) -> CheckpointGated:
    return CheckpointGated(
        f"{repo} is gated: its licence must be accepted, by an account whose token is used here",
        hint=f"Accept it at https://huggingface.co/{repo}, then set HF_TOKEN to a token of that account.",
        field="checkpoint",
    )


def _http_error() -> type[Exception]:
    """The base of what the HTTP library under huggingface_hub raises; which one, differs by version."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = next(
        kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"
    )
    return base
