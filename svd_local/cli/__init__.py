"""The command line: parse, call, render. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from svd_local.cli import batch, catalog, generate, models, status
from svd_local.cli._shared import fail, mute
from svd_local.cli.interrupts import hear_all
from svd_local.cli.unread import let_go_unread
from svd_local.errors import Cancelled, InvalidRequest, SvdLocalError

app = typer.Typer(
    name="svd-local",
    help="Short training-video clips with Stable Video Diffusion, on your own GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("generate")(generate.generate)
app.add_typer(batch.app, name="batch")
app.command("status")(status.status)
app.command("self-test")(status.self_test)
app.add_typer(models.app, name="models")
app.add_typer(catalog.app, name="catalog")

# Typer's usage errors share a base class that some of its versions keep in a private module.
_UsageProblem: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from svd_local import __version__

        print(f"svd-local {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and leave.",
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    """What all commands share: nothing yet but the version."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status. Never raises for what a user can do wrong."""
    json_output = "--json" in arguments
    try:
        return _ending_of(_json_first(arguments) if json_output else arguments, json_output)
    except typer.Exit as end:
        return int(end.exit_code)
    except BrokenPipeError:  # whoever read our answer has had enough of it
        mute()
        return 0


def _ending_of(arguments: Sequence[str], json_output: bool) -> int:
    try:
        status_ = app(args=list(arguments), prog_name="svd-local", standalone_mode=False)
        return status_ if isinstance(status_, int) else 0
    except _UsageProblem as problem:
        if type(problem).__name__ == "NoArgsIsHelpError":
            print(getattr(problem, "message", ""), file=sys.stderr)
            return 2
        fail(_usage(problem), json_output)
    except (typer.Abort, KeyboardInterrupt):
        fail(Cancelled("interrupted"), json_output)
    except typer.Exit:
        raise
    except Exception as error:
        if not json_output:
            raise
        internal = SvdLocalError(
            f"a bug in svd_local: {type(error).__name__}: {error}",
            hint="Run the command again without --json for the traceback, and report it.",
        )
        fail(internal, json_output)


def _json_first(arguments: Sequence[str]) -> list[str]:
    """``--json`` before all other options, so that none that lacks its value swallows it."""
    rest = [argument for argument in arguments if argument != "--json"]
    at = next((n for n, argument in enumerate(rest) if argument.startswith("-")), len(rest))
    return [*rest[:at], "--json", *rest[at:]]


def _usage(problem: Exception) -> InvalidRequest:
    """What Typer says of a wrong command line, as an error of ours."""
    parameter = getattr(problem, "param", None)
    option = getattr(problem, "option_name", None)
    field = getattr(parameter, "name", None) or (option and option.lstrip("-"))
    what = getattr(problem, "message", None) or str(problem)
    return InvalidRequest(
        what if field is None or field in what else f"{field}: {what}",
        hint="svd-local --help lists the commands, svd-local COMMAND --help its options.",
        field=field,
    )


def main() -> None:
    """Entry point of ``svd-local`` and ``python -m svd_local``.

    Being told to end (``kill``, a closed terminal, a service manager) is answered as Ctrl-C is:
    cancelled, tidied up, reported.
    """
    let_go_unread()
    hear_all()
    sys.exit(run(sys.argv[1:]))
