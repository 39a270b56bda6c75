"""From the engine's stream to a tier's frames: the form changes, and nothing is held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.engine.takes import Made, Stream, Take
from svd_local.result import Timings
from svd_local.tiers.base import BeginAgain, Ending, Frames, Plan

if TYPE_CHECKING:
    from svd_local.engine.values import Pixels, Sampling


def frames_of(stream: Stream, sampling: Sampling, plan: Plan) -> Frames:
    """The frames of ``stream``, which is read up to its first take: what fails before it fails here."""
    return Reel(stream, sampling, plan).begin()


class Reel:
    """Iterates over the frames of a stream; what comes after a void take is another `Frames` on it."""

    def __init__(self, stream: Stream, sampling: Sampling, plan: Plan) -> None:
        self._stream = stream
        self._sampling = sampling
        self._plan = plan
        self._made: Made | None = None

    def begin(self) -> Frames:
        """The first take's frames."""
        take = next(self._stream)
        assert isinstance(take, Take)
        return self._frames(take)

    def __iter__(self) -> Reel:
        return self

    def __next__(self) -> Pixels:
        try:
            item = next(self._stream)
        except StopIteration as end:
            self._made = self._made or end.value
            if self._made is None:
                raise RuntimeError("the frames were closed before their end") from None
            raise
        if isinstance(item, Take):
            raise BeginAgain(self._frames(item))
        return item

    def close(self) -> None:
        """Stop the work; the networks are as new then."""
        self._stream.close()

    def _frames(self, take: Take) -> Frames:
        ran: dict[str, Any] = {"precision": take.precision}
        if take.decode_chunk is not None:
            ran["decode_chunk"] = take.decode_chunk
        if take.engine != self._plan.engine:
            ran["engine"] = take.engine
        return Frames(
            count=self._sampling.frames,
            width=self._sampling.width,
            height=self._sampling.height,
            chunks=self,
            ended=self._ending,
            ran=ran,
            engine=take.engine,
        )

    def _ending(self) -> Ending:
        made = self._made
        if made is None:
            raise RuntimeError("how a clip was made is known when its frames were read to the end")
        return Ending(
            made.memory,
            Timings(
                load_s=made.load_s,
                encode_image_s=made.phases.encode_image_s,
                denoise_s=made.phases.denoise_s,
                decode_s=made.phases.decode_s,
            ),
            made.notes,
        )
