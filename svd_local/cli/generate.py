"""``svd-local generate``: one request, one clip (or ``--count`` of them, a seed each)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_local.cli._shared import emit, ending, fail, failure, load_settings, say, tell
from svd_local.cli.interrupts import remembered
from svd_local.errors import Cancelled, InvalidRequest, SvdLocalError

if TYPE_CHECKING:
    from svd_local.generator import VideoGenerator
    from svd_local.request import ClipRequest
    from svd_local.result import Clip

_Text = str | None


def _option(name: str, help_: str, metavar: str) -> Any:
    return typer.Option(name, help=help_, metavar=metavar, show_default=False)


def generate(
    prompt: Annotated[_Text, _option("--prompt", "What the clip is about.", "TEXT")] = None,
    image: Annotated[
        list[str] | None,
        _option("--image", "The picture to set in motion; more of them are cross-faded.", "PATH"),
    ] = None,
    title: Annotated[_Text, _option("--title", "Large letters over the clip.", "TEXT")] = None,
    caption: Annotated[_Text, _option("--caption", "Small letters below them.", "TEXT")] = None,
    logo: Annotated[
        _Text, _option("--logo", "A picture for the upper right corner.", "PATH")
    ] = None,
    fit: Annotated[
        _Text, _option("--fit", "Bring a picture to shape: crop it, or pad it.", "crop|pad")
    ] = None,
    background: Annotated[
        _Text, _option("--background", "Colour behind transparent pictures.", "#RRGGBB")
    ] = None,
    tier: Annotated[
        _Text,
        _option(
            "--tier",
            "auto, local, huggingface, webui, image-sequence, placeholder; a named tier never "
            "falls through to another.",
            "ID",
        ),
    ] = None,
    checkpoint: Annotated[
        _Text, _option("--checkpoint", "svd, svd-xt, tiny-svd, ...", "NAME|PATH|org/name")
    ] = None,
    engine: Annotated[_Text, _option("--engine", "How SVD is run.", "fused|reference")] = None,
    device: Annotated[
        _Text, _option("--device", "cpu only when asked for.", "auto|cuda|cpu")
    ] = None,
    frames: Annotated[_Text, _option("--frames", "14 to 25.", "N")] = None,
    fps: Annotated[_Text, _option("--fps", "6 to 8.", "N")] = None,
    duration: Annotated[
        _Text, _option("--duration", "Seconds; animated stills last 4.", "S")
    ] = None,
    steps: Annotated[_Text, _option("--steps", "Denoising steps, 1 to 100.", "N")] = None,
    seed: Annotated[_Text, _option("--seed", "Drawn and recorded where not given.", "N")] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, max=1000, help="Clips, seeds one after the other.")
    ] = 1,
    motion: Annotated[_Text, _option("--motion", "Motion bucket, 1 to 255.", "N")] = None,
    noise: Annotated[_Text, _option("--noise", "Noise on the picture, 0 to 1.", "F")] = None,
    guidance: Annotated[
        _Text, _option("--guidance", "First and last frame's guidance.", "MIN:MAX")
    ] = None,
    size: Annotated[_Text, _option("--size", "Size the model works at.", "WxH")] = None,
    resolution: Annotated[
        _Text, _option("--resolution", "Size of the file.", "native|720p|1080p")
    ] = None,
    quality: Annotated[
        _Text, _option("--quality", "fast takes the ten-step schedule.", "fast|standard|high")
    ] = None,
    speed: Annotated[
        _Text,
        _option("--speed", "exact, or an approximation.", "exact|cached|fp8|fp8+cached|distilled"),
    ] = None,
    cache_interval: Annotated[
        _Text, _option("--cache-interval", "cached: each how manieth step is whole.", "N")
    ] = None,
    cache_depth: Annotated[
        _Text, _option("--cache-depth", "cached: layers computed between, 1 to 11.", "N")
    ] = None,
    vram_budget: Annotated[
        _Text, _option("--vram-budget", "Most GPU memory to use, as 6GiB.", "SIZE")
    ] = None,
    allow_approximate: Annotated[
        bool, typer.Option("--allow-approximate", help="Out of memory may change pixels.")
    ] = False,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the steps: a slower first clip, faster ones after it.",
            show_default=False,
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Make it anew.")] = False,
    no_remote: Annotated[
        bool, typer.Option("--no-remote", help="Nothing may leave this machine.")
    ] = False,
    out: Annotated[_Text, _option("--out", "Folder for the files.", "DIR")] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Make a clip from words, a picture, or both."""
    given = {
        "prompt": prompt,
        "image": image[0] if image else None,
        "images": tuple(image[1:]) if image else None,
        "title": title,
        "caption": caption,
        "logo": logo,
        "fit": fit,
        "background": background,
        "tier": tier,
        "checkpoint": checkpoint,
        "engine": engine,
        "device": device,
        "frames": frames,
        "fps": fps,
        "duration": duration,
        "steps": steps,
        "seed": seed,
        "motion": motion,
        "noise": noise,
        "guidance": guidance,
        "size": size,
        "resolution": resolution,
        "quality": quality,
        "speed": speed,
        "cache_interval": cache_interval,
        "cache_depth": cache_depth,
        "vram_budget": vram_budget,
        "allow_approximate": allow_approximate,
        "compile": compile,
        "no_cache": no_cache,
        "no_remote": no_remote,
        "out": out,
    }
    with ending(json_output):
        from svd_local.generator import VideoGenerator
        from svd_local.request import ClipRequest

        request = ClipRequest(**{k: v for k, v in given.items() if v is not None})
        requests = _requests(request, count)
        with VideoGenerator(load_settings()) as generator, remembered() as told_to_end:
            clips, stopped = _make(generator, requests, told_to_end)
        if stopped is not None and not clips:
            raise stopped
        _render(clips, stopped, json_output, count)


def _requests(request: ClipRequest, count: int) -> list[ClipRequest]:
    """``count`` requests whose seeds follow one another; one drawn seed begins them."""
    if count == 1:
        return [request]
    from svd_local.generator import draw_seed

    first = draw_seed() if request.seed is None else request.seed
    if first + count > 2**63:
        raise InvalidRequest(
            f"seed: {count} seeds from {first} on leave the range",
            hint="Write a smaller --seed.",
            field="seed",
        )
    return [request.model_copy(update={"seed": first + n}) for n in range(count)]


def _make(
    generator: VideoGenerator, requests: list[ClipRequest], told_to_end: Callable[[], bool]
) -> tuple[list[Clip], SvdLocalError | None]:
    from svd_local.cli.progress import progress_display

    clips: list[Clip] = []
    for number, request in enumerate(requests, 1):
        label = "" if len(requests) == 1 else f"{number}/{len(requests)} "
        try:
            with progress_display(label) as report:
                clips.append(generator.generate(request, progress=report, cancelled=told_to_end))
        except SvdLocalError as error:
            return clips, error
        except KeyboardInterrupt as stop:
            cancelled = Cancelled.by(stop)
            cancelled.attempts = getattr(stop, "attempts", ())
            return clips, cancelled
    return clips, None


def _render(
    clips: list[Clip], stopped: SvdLocalError | None, json_output: bool, count: int
) -> None:
    if json_output and count == 1:
        emit(clips[0].to_json())
    elif json_output:
        document = {"success": True} if stopped is None else failure(stopped)
        emit({**document, "clips": [clip.to_json() for clip in clips]})
    else:
        for number, clip in enumerate(clips):
            _show(clip, first=number == 0)
        if stopped is not None:
            fail(stopped, json_output)
    if stopped is not None:
        raise typer.Exit(stopped.exit_status)
    raise typer.Exit(max(clip.exit_status for clip in clips))


def _show(clip: Clip, *, first: bool) -> None:
    """The path on standard output, what there is to know about it on standard error."""
    for attempt in clip.attempts:
        if first and attempt.outcome != "ok":
            say(f"{attempt.tier}: {attempt.outcome}: {attempt.reason}")
    for correction in clip.corrections:
        to = "left out" if correction.to is None else correction.to
        say(f"{correction.field}: {correction.from_} -> {to}, {correction.why}")
    for warning in clip.warnings:
        say(f"warning: {warning}")
    if clip.is_video:
        how = "found in the catalog" if clip.cached else f"{clip.elapsed_s:.1f} s"
        say(
            f"{clip.kind} by {clip.tier}: {clip.frames} frames at {clip.fps:g} fps, "
            f"{clip.width}x{clip.height}, {how}"
            + (" (synthetic: the frames show nothing)" if clip.synthetic else "")
        )
    else:
        say(f"only a placeholder was made: {clip.attempts[-1].reason if clip.attempts else ''}")
    tell(str(clip.path))
