"""Every error svd_local raises on purpose, as one tree.

    SvdLocalError
    ├── InvalidRequest            2  the request means nothing as written
    │   └── ImageRejected         2  the picture cannot be used
    ├── TierUnavailable           3  this machine, as set up, cannot use the tier
    │   └── CheckpointUnavailable 3  the checkpoint is not here
    │       ├── CheckpointUnknown 3  no such alias, folder or repository
    │       ├── CheckpointGated   3  its licence must be accepted first
    │       ├── CheckpointOffline 3  it would have to be downloaded, and may or can not be
    │       └── CheckpointBroken  3  files truncated, wrong, or pickles only
    ├── TierBusy                  4  a passing cause: loading, throttled, timed out, busy
    ├── TierFailed                1  the tier ran and failed for good
    │   ├── OutOfMemory           1  the smallest exact memory plan did not fit
    │   ├── BadOutput             1  NaN or black frames, twice
    │   ├── DeviceLost            1  the GPU answers this process no more; a new process may go on
    │   └── RemoteFailed          1  another machine refused the work, or answered with rubbish
    ├── MediaFailed               1  ffmpeg failed, or its file is not what was asked for
    ├── StorageFailed             1  a file or catalog row could not be stored
    │   ├── CommitUnknown         1  the database's answer to the commit was lost
    │   └── DiskFull              1
    ├── LeaseLost                 1  another worker has taken the job over
    ├── NotFound                  2  no such clip, batch or job in the catalog
    └── Cancelled               130  the caller asked to stop

The number is the exit status of the command line. Match the type, never the message: messages are
for people and change. ``code`` is the stable name of the type in JSON.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SvdLocalError(Exception):
    """Base of the tree.

    Args:
        message: what failed, on which input.
        hint: what to do next, one sentence.
        field: the request field at fault, where there is one.
        retry_after_s: seconds after which the same call may succeed, where that is known.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    falls_through: bool = False
    """Whether ``--tier auto`` goes on to the next tier after this error."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.retry_after_s = retry_after_s
        self.attempts: tuple[Any, ...] = ()
        """The ``result.Attempt`` values up to this error, where a ladder was climbed."""

    def to_json(self) -> dict[str, Any]:
        """The ``error`` object of a failure document."""
        return {
            "code": self.code,
            "field": self.field,
            "message": self.message,
            "hint": self.hint,
        }


class InvalidRequest(SvdLocalError):
    """The request, or the settings it meets, mean nothing as written. Nothing was run or written."""

    code = "invalid-request"
    exit_status = 2


class ImageRejected(InvalidRequest):
    """The picture is no picture, is damaged, too large, or of a kind that is not taken."""

    code = "image-rejected"


class TierUnavailable(SvdLocalError):
    """The tier cannot be used on this machine as it is set up; nothing was run."""

    code = "tier-unavailable"
    exit_status = 3
    falls_through = True


class CheckpointUnavailable(TierUnavailable):
    """The checkpoint is not installed."""

    code = "checkpoint-unavailable"
    missing: str | None = None
    """What has to be pulled, where that is not the checkpoint that was asked for."""


class CheckpointUnknown(CheckpointUnavailable):
    """No alias, folder or repository of that name."""

    code = "checkpoint-unknown"
    falls_through = False


class CheckpointGated(CheckpointUnavailable):
    """The repository asks for its licence to be accepted, and this account has not."""

    code = "checkpoint-gated"


class CheckpointOffline(CheckpointUnavailable):
    """The checkpoint would have to be downloaded, and downloads are off or the hub is out of reach."""

    code = "checkpoint-offline"


class CheckpointBroken(CheckpointUnavailable):
    """The checkpoint is here but truncated, of another architecture, or made of pickles.

    It does not fall through: going on silently would hide that the installation needs repair.
    """

    code = "checkpoint-broken"
    falls_through = False


class TierBusy(SvdLocalError):
    """The tier cannot serve now and may later: loading, throttled, timed out, busy."""

    code = "tier-busy"
    exit_status = 4
    falls_through = True
    unasked: bool = False
    """Whether nothing was asked of the service for this clip, since it is known to be busy until
    ``retry_after_s`` from now: no try is lost by it."""


class TierFailed(SvdLocalError):
    """The tier ran and failed for a reason that will not pass by itself."""

    code = "tier-failed"


class OutOfMemory(TierFailed):
    """Not even the smallest exact memory plan fitted."""

    code = "out-of-memory"
    falls_through = True


class BadOutput(TierFailed):
    """The frames were NaN or black, and again in a safer precision."""

    code = "bad-output"


class DeviceLost(TierFailed):
    """The GPU answers no call of this process any more: its CUDA context is broken, or it is gone.

    No retry within the process can mend that, and nothing falls through: whoever is not the process
    itself, as a supervisor of workers, starts another one.
    """

    code = "device-lost"


class RemoteFailed(TierFailed):
    """A service on another machine refused the work or answered with what is no clip.

    It falls through: the next tier does not share the fault.
    """

    code = "remote-failed"
    falls_through = True


class MediaFailed(SvdLocalError):
    """ffmpeg failed, ran past its deadline, or made a file that is not what was asked for."""

    code = "media-failed"


class StorageFailed(SvdLocalError):
    """A file or a catalog row could not be stored; nothing was published."""

    code = "storage-failed"


class CommitUnknown(StorageFailed):
    """The database's answer to the commit of a clip's row was lost, and it cannot be asked: the files stay
    where they are, since the row may be there.
    """

    code = "commit-unknown"


class DiskFull(StorageFailed):
    """No room left on the device; the partial file is gone again."""

    code = "disk-full"


class LeaseLost(SvdLocalError):
    """The job is no longer this worker's: taken over by another, or cancelled. Nothing was published."""

    code = "lease-lost"


class JobsFailed(SvdLocalError):
    """A batch ran to its end, and some of its clips were given up."""

    code = "jobs-failed"


class NotFound(SvdLocalError):
    """The catalog has no such clip, batch or job."""

    code = "not-found"
    exit_status = 2


class Cancelled(SvdLocalError):
    """The caller cancelled; nothing was published."""

    code = "cancelled"
    exit_status = 130

    @classmethod
    def by(cls, stop: KeyboardInterrupt) -> Cancelled:
        """Of an interrupt, with what was noted on it on its way."""
        return cls("interrupted", hint=". ".join(getattr(stop, "__notes__", ())))
