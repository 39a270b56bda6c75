"""A hub of one repository on the loopback: listing and files, with ranges, cuts and refusals."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
from pathlib import Path
from typing import Any

REPO = "stabilityai/stable-video-diffusion-img2vid"


class Hub:
    """What the server answers with, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = "open"
        self.cut_after: dict[str, int] = {}
        """Bytes after which the connection breaks, for each further request of a file."""
        self.wrong: set[str] = set()
        """Files that arrive damaged."""
        self.ignores_ranges = False
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.endpoint = ""
        self.commit = "5" * 40

    def asked_for(self, name: str) -> list[str | None]:
        return [span for path, span, _ in self.requests if path.endswith(f"{self.commit}/{name}")]


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        span, token = self.headers.get("Range"), self.headers.get("Authorization")
        self.hub.requests.append((path, span, token))
        if self.hub.state == "missing" or REPO not in path:
            self.refuse(404, "RepoNotFound")
        elif self.hub.state == "busy":
            self.refuse(503, "")
        elif path.startswith("/api/models/"):
            self.reply(200, json.dumps(self.listing()).encode())
        elif self.hub.state == "gated" and token != "Bearer accepted":
            self.refuse(403, "GatedRepo")
        else:
            self.serve(path.partition(f"/resolve/{self.hub.commit}/")[2], span)

    def listing(self) -> dict[str, Any]:
        siblings = []
        for path in sorted(self.hub.folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.hub.folder).as_posix()
                data = path.read_bytes()
                entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
                if path.suffix in (".safetensors", ".bin"):
                    digest = hashlib.sha256(data).hexdigest()
                    entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
                else:
                    blob = b"blob %d\0" % len(data) + data
                    entry["blobId"] = hashlib.sha1(blob).hexdigest()
                siblings.append(entry)
        return {
            "id": REPO,
            "sha": self.hub.commit,
            "siblings": siblings,
            "gated": "auto" if self.hub.state == "gated" else False,
            "private": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": {"license": "other", "license_name": "some-terms"},
        }

    def serve(self, name: str, span: str | None) -> None:
        data = (self.hub.folder / name).read_bytes()
        if name in self.hub.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = 0
        if span and not self.hub.ignores_ranges:
            match = re.fullmatch(r"bytes=(\d+)-", span)
            assert match is not None
            start = int(match[1])
        body = data[start:]
        cut = self.hub.cut_after.pop(name, None)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, b"", {"X-Error-Code": code} if code else {})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
