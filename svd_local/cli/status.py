"""``svd-local status`` and ``svd-local self-test``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from svd_local.cli._shared import emit, ending, failure, load_settings, say, tell
from svd_local.errors import TierFailed

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def status(
    deep: Annotated[
        bool, typer.Option("--deep", help="Load torch and look at the GPU through it.")
    ] = False,
    json_output: _Json = False,
) -> None:
    """What this machine can do: tiers and why, GPU, checkpoints, versions, paths."""
    with ending(json_output):
        from svd_local.generator import VideoGenerator

        with VideoGenerator(load_settings()) as generator:
            report = generator.status(deep=deep)
        if json_output:
            emit(report)
        else:
            _show_status(report)


def self_test(json_output: _Json = False) -> None:
    """Make a small clip with every tier that can be tried here, and check each file."""
    with ending(json_output):
        from svd_local.cli.progress import progress_display
        from svd_local.generator import VideoGenerator

        with (
            VideoGenerator(load_settings()) as generator,
            progress_display("self-test: ") as progress,
        ):
            report = generator.self_test(progress=progress)
        if json_output and not report["success"]:
            emit({**failure(_nothing_works()), **report})
        elif json_output:
            emit(report)
        else:
            for tier in report["tiers"]:
                say(f"{tier['tier']:15} {tier['outcome']:12} {tier['detail']}")
            for warning in report["warnings"]:
                tell(warning)
            tell("passed" if report["success"] else "failed")
        raise typer.Exit(0 if report["success"] else 1)


def _nothing_works() -> TierFailed:
    return TierFailed(
        "no tier above the placeholder made a file that decodes",
        hint="Each tier's detail says what is wrong; image-sequence needs nothing but ffmpeg.",
    )


def _show_status(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    tiers = Table("tier", "", "why", title=f"svd-local {report['version']}", title_justify="left")
    for tier in report["tiers"]:
        text = ". ".join(part for part in (tier["reason"], tier["hint"]) if part)
        tiers.add_row(tier["id"], "yes" if tier["available"] else "no", text)
    console.print(tiers)
    rest = Table("what", "is", show_header=False)
    rest.add_row("leaves this machine", "; ".join(report["would_leave_machine"]) or "nothing")
    for gpu in report["gpu"]["devices"]:
        rest.add_row("GPU", f"{gpu['name']}, {gpu['free']} of {gpu['total']} free")
    if not report["gpu"]["devices"]:
        rest.add_row("GPU", report["gpu"]["reason"])
    for checkpoint in report["checkpoints"]:
        rest.add_row("checkpoint", f"{checkpoint['name']} ({checkpoint['path'] or 'no files'})")
    ffmpeg = report["ffmpeg"]
    rest.add_row("ffmpeg", ffmpeg["version"] or ffmpeg["reason"])
    for name, path in report["paths"].items():
        rest.add_row(name, str(path))
    rest.add_row("versions", ", ".join(f"{k} {v}" for k, v in report["versions"].items() if v))
    console.print(rest)
