"""A headless Chromium of the tests' own, spoken to through two pipes (the DevTools protocol)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    """Where Chromium is; None where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page of a browser; what it says meanwhile is in ``events``."""

    def __init__(self, commands: int, answers: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._commands = commands
        self._answers = answers
        self._held = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next(30)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, path: Path) -> None:
        """Show a file of this machine, all that it loads at once included."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(30))

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.05)

    def told(self, method: str) -> list[dict[str, Any]]:
        """What came with every event of that kind."""
        return [event["params"] for event in self.events if event["method"] == method]

    def _next(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            assert select.select([self._answers], [], [], seconds)[0], "the browser is silent"
            block = os.read(self._answers, 1 << 16)
            assert block, "the browser has ended"
            self._held += block
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def running(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with a new profile, and without it when the block is left."""
    ends = [fd for _ in range(2) for fd in os.pipe()]
    # Out of the way of 3 and 4, which are the browser's.
    command_in, command_out, answer_in, answer_out = (
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends
    )
    for fd in ends:
        os.close(fd)

    def placed() -> None:
        os.dup2(command_in, 3)
        os.dup2(answer_out, 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=placed,
        pass_fds=(3, 4),
    )
    os.close(command_in)
    os.close(answer_out)
    try:
        yield Browser(command_out, answer_in)
    finally:
        process.kill()
        process.wait()
        os.close(command_out)
        os.close(answer_in)
