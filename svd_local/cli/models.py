"""``svd-local models list|pull|verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_local.cli._shared import emit, ending, failure, load_settings, say, tell
from svd_local.errors import Cancelled, CheckpointBroken

if TYPE_CHECKING:
    from svd_local.engine.checkpoint import Checkpoint
    from svd_local.engine.download import Offer

app = typer.Typer(
    help="Checkpoints: what is installed, pull one, verify them.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("list")
def list_models(json_output: _Json = False) -> None:
    """What is installed here, and what can be pulled or made by name."""
    with ending(json_output):
        from svd_local.engine.aliases import PUBLISHED, PUBLISHED_UNETS, SYNTHETIC_FRAMES, TINY
        from svd_local.engine.checkpoints import list_installed

        settings = load_settings()
        installed = [checkpoint.to_json() for checkpoint in list_installed(settings.models_dir)]
        here = {one["name"] for one in installed}
        available: list[dict[str, Any]] = [
            {"name": p.alias, "repo": p.repo, "licence": p.licence, "gated": p.gated, "base": None}
            for p in PUBLISHED.values()
            if p.alias not in here
        ]
        available += [
            {"name": u.alias, "repo": u.repo, "licence": u.licence, "gated": False, "base": u.base}
            for u in PUBLISHED_UNETS.values()
            if u.alias not in here
        ]
        made = [name for name in (TINY, *SYNTHETIC_FRAMES) if name not in here]
        if json_output:
            emit(
                {
                    "success": True,
                    "models_dir": str(settings.models_dir.absolute()),
                    "installed": installed,
                    "available": available,
                    "made_here": made,
                }
            )
            return
        for one in installed:
            tell(f"{one['name']:17} installed  {one['path']}{_belongs(one)}")
            for note in one["notes"]:
                tell(f"{'':17} note       {note}")
        for one in available:
            gated = ", gated" if one["gated"] else ""
            tell(
                f"{one['name']:17} to pull    {one['repo']} ({one['licence']}{gated}){_belongs(one)}"
            )
        for name in made:
            tell(f"{name:17} made here  random weights, for trying and timing")


@app.command("pull")
def pull_model(
    name: Annotated[
        str,
        typer.Argument(help="svd, svd-xt, svd-xt-1.1, animatelcm-svd-xt, tiny-svd or org/name."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the download.")] = False,
    json_output: _Json = False,
) -> None:
    """Fetch what is needed of a checkpoint; size and licence are shown first. Goes on where it stopped."""
    with ending(json_output):
        from svd_local.cli.progress import download_display
        from svd_local.engine.aliases import PUBLISHED, by_repo
        from svd_local.engine.download import pull

        settings = load_settings()
        published = PUBLISHED.get(name) or by_repo(name)
        if published is not None:  # told even where the hub cannot be asked
            _show_licence(published.licence, published.licence_url)

        def agree(offer: Offer) -> None:
            _show(offer)
            if published is None:
                _show_licence(offer.licence, offer.licence_url)
            interactive = sys.stdin.isatty() and not json_output
            if interactive and not yes and offer.missing_bytes and not typer.confirm("Fetch it?"):
                raise Cancelled("nothing was fetched")

        with download_display() as on_progress:
            checkpoint = pull(
                name,
                settings.models_dir,
                token=settings.hub_token,
                on_offer=agree,
                on_progress=on_progress,
            )
        if checkpoint.unet is not None and checkpoint.base is None:
            base = checkpoint.unet.base
            say(
                f"it replaces the UNet of {base}, which is not installed: svd-local models pull {base}"
            )
        if json_output:
            emit({"success": True, "checkpoint": checkpoint.to_json()})
        else:
            tell(str(checkpoint.path or f"{checkpoint.name} needs no files"))


@app.command("verify")
def verify_models(
    name: Annotated[
        str | None, typer.Argument(help="One checkpoint; all that are installed where not given.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Structure and lengths only, no checksums.")
    ] = False,
    json_output: _Json = False,
) -> None:
    """Check files against what they should be: complete, unaltered, no pickles."""
    with ending(json_output):
        from svd_local.engine.checkpoints import list_installed, resolve
        from svd_local.engine.verify import verify

        folder = load_settings().models_dir
        checkpoints = list_installed(folder) if name is None else [resolve(name, folder)]
        findings = [(one, verify(one, checksums=not quick)) for one in checkpoints]
        sound = not any(problems for _, problems in findings)
        if json_output:
            told = [{**one.to_json(), "problems": problems} for one, problems in findings]
            emit(
                {
                    **({"success": True} if sound else failure(_damaged(findings))),
                    "checkpoints": told,
                }
            )
        else:
            _tell(findings)
        raise typer.Exit(0 if sound else 1)


def _belongs(one: dict[str, Any]) -> str:
    return f", a distilled UNet for {one['base']}" if one["base"] else ""


def _damaged(findings: list[tuple[Checkpoint, list[str]]]) -> CheckpointBroken:
    names = ", ".join(one.name for one, problems in findings if problems)
    return CheckpointBroken(
        f"damaged: {names}",
        hint="Pull it again, or copy it again from where it came; what is made here is made anew "
        "when deleted.",
    )


def _tell(findings: list[tuple[Checkpoint, list[str]]]) -> None:
    for checkpoint, problems in findings:
        state = "damaged" if problems else "whole"
        if checkpoint.path is None or not checkpoint.path.exists():
            state = "not made yet; it is made on first use"
        tell(f"{checkpoint.name}: {state}")
        for problem in problems:
            tell(f"  {problem}")
    if not findings:
        say("no checkpoint is installed")


def _show(offer: Offer) -> None:
    """What a pull would do, before a byte is fetched; on standard error."""
    gigabytes = offer.missing_bytes / 1e9
    say(
        f"{offer.repo} at {offer.commit[:12]}: {len(offer.files)} files, {gigabytes:.2f} GB to fetch"
    )
    say(f"into {offer.folder}")


def _show_licence(licence: str | None, url: str) -> None:
    say(f"licence: {licence or 'none given'} ({url})")
