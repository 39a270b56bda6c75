"""What the README says is there, is there; what is there, it says."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

from svd_local import errors
from svd_local.settings import Settings, variable_of
from svd_local.tiers import huggingface, webui
from svd_local.tiers.policy import DROPPED, PASSING
from svd_local.tiers.remote.refusals import refusal

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_the_settings_table_is_the_settings() -> None:
    assert _first_column(_section("Settings")) == {variable_of(f) for f in Settings.model_fields}


def test_every_variable_anywhere_in_it_exists() -> None:
    named = set(re.findall(r"\b(?:SVD_LOCAL|STABLE_DIFFUSION|HUGGING_FACE)_[A-Z0-9_]+\b", README))
    assert named <= {variable_of(field) for field in Settings.model_fields}


def test_the_file_map_is_the_tree() -> None:
    mapped = _first_column(_section("File map"))
    assert [path for path in mapped if not (ROOT / path).exists()] == []
    package = {
        f"svd_local/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "svd_local").iterdir()
        if path.name[0] not in "_." and path.name != "py.typed"
    }
    assert {path for path in mapped if path.startswith("svd_local/")} == package | {"svd_local/"}


def _rows(section: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line is ``head``."""
    lines = section.split(f"\n{head}\n")[1].splitlines()[1:]
    table = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]


def _kinds(kind: type[errors.SvdLocalError]) -> list[type[errors.SvdLocalError]]:
    ours = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [one for child in ours for one in (child, *_kinds(child))]


def test_the_table_of_errors_is_the_tree() -> None:
    head = "| error | what happened | with `--tier auto` | exit status |"
    rows = _rows(_section("When something goes wrong"), head)
    assert sorted((row[0], row[2], row[3]) for row in rows) == sorted(
        (f"`{kind.code}`", "next tier" if kind.falls_through else "stops", str(kind.exit_status))
        for kind in _kinds(errors.SvdLocalError)
    )


def test_the_table_of_a_services_answers_is_what_is_done() -> None:
    rows = _rows(_section("When something goes wrong"), "| the service | tried again | then |")
    numbers: set[int] = set()
    for what, again, then in rows:
        for status in map(int, re.findall(r"\b\d{3}\b", what)):
            error = refusal("it", status, {}, b"", advice={}, secrets=())
            assert then == f"`{error.code}`"
            assert again.startswith("yes") is (status in PASSING)
            assert ("paid for" in again) is (status in DROPPED)
            numbers.add(status)
    assert numbers >= PASSING | {400, 401, 402, 403, 404, 410, 422, 500}


def test_the_figures_of_patience_are_the_tiers() -> None:
    text = " ".join(_section("When something goes wrong").split())
    hub, web = huggingface.POLICY, webui.POLICY
    for said in (
        f"{hub.deadline_s / 60:g} minutes for `huggingface`, {web.deadline_s / 60:g} for `webui`",
        f"up to {hub.longest_wait_s / 60:g} minutes",
        f"({hub.longest_rest_s / 60:g} minutes at most)",
    ):
        assert said in text
    assert (hub.failures, web.failures, hub.rest_s, web.rest_s) == (3, 3, 60, 60)
    assert hub.longest_wait_s == web.longest_wait_s
    assert not hub.resend_dropped


def _commands() -> list[list[str]]:
    lines = re.findall(r"^\$ (.+?)(?:\s+#.*)?$", README, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_and_option_exists(command: list[str]) -> None:
    if command[0].startswith("scripts/"):
        assert (ROOT / command[0]).is_file()
        return
    assert command[0] == "svd-local"
    import typer

    from svd_local.cli import app

    node = typer.main.get_command(app)
    rest = command[1:]
    while rest and hasattr(node, "commands"):
        default = getattr(node, "default", None)
        named = rest.pop(0) if default is None or rest[0] in node.commands else default
        node = node.commands[named]
    known = {name for parameter in node.params for name in parameter.opts}
    assert [part for part in rest if part.startswith("--") and part not in known] == []


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_its_figures_are_those_of_the_results() -> None:
    import runpy

    rewritten = runpy.run_path(str(ROOT / "scripts" / "measured.py"))["rewritten"]
    assert rewritten(README) == README
