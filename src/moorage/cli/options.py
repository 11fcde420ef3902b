"""What does every command take, and how does a command wait to be imported?

`-r`, `--json` and `--quiet` may stand before the command's word and after it (`moorage --json ls prod`, `moorage ls
prod --json`): each command and each group declares them, and all of them write to the one `Settings` of the run. What
stands furthest right holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer import _click as click  # typer's own copy of click has no public name; the pin in pyproject.toml covers it
from typer._click.types import ParamType
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_group

REPOSITORY_VARIABLE = "MOORAGE_REPO"
_PANEL = "Everywhere"


@dataclass(slots=True)
class Settings:
    """What was asked of this run, whichever command it is."""

    repository: str | None = None
    """As given by -r; None leaves it to MOORAGE_REPO and the nearest `.moorage`."""
    json: bool = False
    quiet: bool = False
    is_terminal: bool | None = None
    """Whether to write as to a terminal; None looks at the standard output. The demo says True when it is piped."""

    @classmethod
    def of(cls, context: click.Context) -> Settings:
        """Those of the run that `context` belongs to."""
        return context.ensure_object(cls)


def _common_options() -> list[click.Parameter]:
    """Fresh ones for one command: an option belongs to the command that parses it."""
    return [
        TyperOption(
            param_decls=["--repo", "-r"],
            metavar="DIR",
            callback=_set_repository,
            expose_value=False,
            help=f"The repository; otherwise {REPOSITORY_VARIABLE}, otherwise the nearest .moorage upwards.",
            rich_help_panel=_PANEL,
        ),
        TyperOption(
            param_decls=["--json"],
            is_flag=True,
            is_eager=True,
            callback=_set_json,
            expose_value=False,
            help="Print JSON: one object, or one a line; errors too.",
            rich_help_panel=_PANEL,
        ),
        TyperOption(
            param_decls=["--quiet", "-q"],
            is_flag=True,
            callback=_set_quiet,
            expose_value=False,
            help="Print no progress and nothing that was not asked for.",
            rich_help_panel=_PANEL,
        ),
    ]


def _set_repository(context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise typer.BadParameter("a path is empty (the current directory is '.')", context, _option)
    if value is not None:
        Settings.of(context).repository = value
    return value


def _set_json(context: click.Context, _option: click.Parameter, value: bool | None) -> bool | None:
    if value:
        Settings.of(context).json = True
    return value


def _set_quiet(context: click.Context, _option: click.Parameter, value: bool | None) -> bool | None:
    if value:
        Settings.of(context).quiet = True
    return value


class _GivenPath(ParamType):
    """A path; an empty one, as of a variable that is not set, would mean the current directory."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """What was typed, as a path."""
        if value == "":
            self.fail("a path is empty (the current directory is '.')", param, ctx)
        return Path(value)


GIVEN_PATH = _GivenPath()


class Command(TyperCommand):
    """A command that takes the common options after its word."""

    words: ClassVar[str] = ""
    """How its usage goes on after the options, where that is more than its arguments in a row."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(_common_options())
        # Typer unwraps the first paragraph alone.
        self.help = "\n\n".join(" ".join(part.split()) for part in cleandoc(self.help or "").split("\n\n"))

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """As the documentation writes it, without the braces that typer puts around what is required."""
        if self.words:
            return ["[OPTIONS]", self.words]
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


def command_of(words: str) -> type[Command]:
    """A command with this usage."""
    return type("Command", (Command,), {"words": words})


class Group(TyperGroup):
    """A group of commands that takes them before the word of the command, too."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(_common_options())


class LazyCommand(TyperCommand):
    """A command in the table: its name and summary are known, its module is imported when it is called."""

    def __init__(self, name: str, module: str, summary: str, panel: str) -> None:
        super().__init__(name, help=summary, rich_help_panel=panel)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse with the real command, which the context then names."""
        app: typer.Typer = importlib.import_module(self._module).app
        real: Mapping[str, click.Command] = get_group(app).commands
        assert self.name is not None
        return real[self.name].make_context(info_name, args, parent, **extra)
