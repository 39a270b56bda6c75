"""Pictures that come through huggingface_hub, kept from being opened by it.

The library opens whatever a provider sends with every decoder Pillow has. Ours opens pictures in one
place, which refuses bombs and formats nobody needs; so the bytes are taken out of the answers on their
way, and the library is given a stand-in.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from svd_local.errors import ImageRejected, RemoteFailed
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.library import http_library
from svd_local.tiers.remote.refusals import server_words

if TYPE_CHECKING:
    from PIL.Image import Image

_STAND_IN = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


class PictureTaker:
    """A way through ``door`` on which the picture stays here."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._data: bytes | None = None

    def send(self, request: Any) -> Any:
        """As ``Door.send``, without the picture in the answer.

        Raises:
            RemoteFailed: a web page came, too.
        """
        answer = self._door.send(request)
        body: bytes = answer.content
        document = body.lstrip()[:1] in (b"{", b"[")
        if body.lstrip()[:1] == b"<":  # no picture begins so, and no document
            secrets = self._door.gate.secrets
            said = server_words(body[:4096], secrets)
            who = self._door.gate.who
            raise RemoteFailed(f"{who} sent a picture that is none: {said}", hint=_HINT)
        if not (document and self._door.gate.is_home(request.url.host)):
            self._data = body
            return _answer(answer, _STAND_IN)
        if b'"b64_json"' in body:
            return _answer(answer, self._take_from(body))
        return answer

    def picture(self) -> Image:
        """What came last, RGB.

        Raises:
            RemoteFailed: nothing, or no picture.
        """
        from svd_local.keyframe.picture import open_picture

        who = self._door.gate.who
        if self._data is None:
            raise RemoteFailed(f"{who} sent no picture", hint=_HINT)
        try:
            return open_picture(self._data)
        except ImageRejected as error:
            words = self._data[:1] in (b"<", b"{", b"[")
            said = error.message
            if words:
                said = server_words(self._data[:4096], self._door.gate.secrets)
            raise RemoteFailed(f"{who} sent a picture that is none: {said}", hint=_HINT) from None

    def _take_from(self, body: bytes) -> bytes:
        """The JSON document ``body`` with its picture, in base64, replaced."""
        try:
            document = json.loads(body)
            entry = document["data"][0]
            self._data = base64.b64decode(entry["b64_json"], validate=True)
        except (ValueError, LookupError, TypeError, RecursionError, binascii.Error):
            who = self._door.gate.who
            raise RemoteFailed(f"{who} sent a picture in broken base64", hint=_HINT) from None
        entry["b64_json"] = base64.b64encode(_STAND_IN).decode("ascii")
        return json.dumps(document).encode()


_HINT = "Try again, or set SVD_LOCAL_HF_TEXT2IMAGE to another model."


def _answer(answer: Any, body: bytes) -> Any:
    return http_library().Response(answer.status_code, content=body, request=answer.request)
