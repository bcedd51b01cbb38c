"""docs/commands.md from the commands themselves: no option on it is typed by hand.

    python docs/write_commands.py [--out docs/commands.md]

Reads what click knows of every command of ``egl_fast.cli.main.COMMANDS``. In a command's help text
a paragraph after ``\\b`` keeps its lines; one whose indented lines call ``egl-fast`` becomes a
block of shell, one of names and explanations a table. A sentence that begins with an argument's
name explains that argument, and ``[default: ...]`` at the end of an option's help is its default.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from egl_fast.cli.main import COMMANDS, EXIT_STATUSES, cli

ROOT = Path(__file__).resolve().parent.parent

OPENING = """\
# Commands and options

Made by `make commands-page` from the commands themselves; `egl-fast COMMAND --help` says the same
in a terminal. [file-formats.md](file-formats.md) says what is in the files.
"""

STATUSES = """
Results go to standard output or into files, progress and warnings to standard error. Every command
ends with one of these statuses:
"""


def page() -> str:
    """The whole page."""
    parts = [OPENING, table(("command", "what it does"), _summaries()), STATUSES]
    parts += [table(("status", "meaning"), ((f"`{k}`", v) for k, v in EXIT_STATUSES.items()))]
    context = click.Context(cli, info_name="egl-fast")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += section(name, command, click.Context(command, context, info_name=name))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _summaries() -> Iterator[tuple[str, str]]:
    return ((f"[`{name}`](#{name})", prose(summary)) for name, summary in COMMANDS.items())


def section(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    """One command: purpose, usage, options, examples."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    # command.params: --help, which every command has, is not among them.
    parameters = [p for p in command.params if not getattr(p, "hidden", False)]
    yield f"\n## {name}\n\n{prose(_joined(paragraphs[0]))}\n"
    yield f"```text\n{usage(command, context, parameters)}\n```\n"
    examples = []
    for paragraph in paragraphs[1:]:
        shown = _paragraph(paragraph)
        if shown.startswith("```sh"):
            examples.append(shown)
        else:
            yield shown
    if parameters:
        text = _joined(" ".join(paragraphs))
        rows = (_row(parameter, text) for parameter in parameters)
        yield table(("option", "default", "meaning"), rows)
    if command.epilog:
        for paragraph in inspect.cleandoc(command.epilog).split("\n\n"):
            yield "\n" + _paragraph(paragraph)
    for example in examples:
        yield f"\n{example}"


def usage(
    command: click.Command, context: click.Context, parameters: Iterable[click.Parameter]
) -> str:
    """The shortest call, with all that is required."""
    options = [p for p in parameters if isinstance(p, click.Option)]
    required = [f"{_longest(o)} {_metavar(o, context)}" for o in options if o.required]
    others = ["[OPTIONS]"] if len(required) < len(options) else []
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    return " ".join([context.command_path, *required, *others, *arguments])


def _row(parameter: click.Parameter, text: str) -> tuple[str, str, str]:
    context = click.Context(click.Command("none"))
    if isinstance(parameter, click.Argument):
        shown = parameter.make_metavar(context).strip("[].")
        name = (parameter.metavar or parameter.human_readable_name.upper()).strip("[].")
        sentence = re.search(rf"(?<![\w.`-]){re.escape(name)} [^.]*\.", text)
        default = "required" if parameter.required else ""
        return f"`{_cell(shown)}`", default, prose(sentence[0]) if sentence else ""
    assert isinstance(parameter, click.Option)
    meaning = _joined(parameter.help or "")
    default = _default(parameter)
    written = re.search(r"\s*\[default: ([^\]]*)\]\.?$", meaning)
    if written:
        meaning, default = meaning[: written.start()].rstrip(".") + ".", written[1]
    limits = _limits(parameter.type)
    if limits:
        meaning = f"{meaning.rstrip('.')}; {limits}."
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        names += " / " + ", ".join(parameter.secondary_opts)
    metavar = "" if parameter.is_flag else f" {_metavar(parameter, context)}"
    return f"`{_cell(names + metavar)}`", prose(default), prose(meaning)


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    if option.is_flag:
        return "on" if option.default is True else "off"
    if isinstance(option.show_default, str):
        return option.show_default
    # Click has a value of its own for "nobody said", which is no default to tell.
    value = option.default if option.show_default else None
    return "" if value is None else f"`{value}`"


def _metavar(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.Choice) and option.metavar is None:
        return "|".join(map(str, option.type.choices))
    return option.make_metavar(context).removesuffix(" RANGE")


def _longest(option: click.Option) -> str:
    return max(option.opts, key=len)


def _limits(kind: click.ParamType) -> str:
    """What a number may be, in words."""
    if not isinstance(kind, (click.IntRange, click.FloatRange)):
        return ""
    low = "" if kind.min is None else f"{'above' if kind.min_open else 'at least'} {kind.min}"
    high = "" if kind.max is None else f"{'below' if kind.max_open else 'at most'} {kind.max}"
    return ", ".join(filter(None, (low, high)))


def _paragraph(text: str) -> str:
    """A paragraph of help in Markdown."""
    lines = text.splitlines()
    if lines[0] != "\b":
        return prose(_joined(text)) + "\n"
    heading, rest = [x for x in lines[1:] if x[:1] != " "], [x for x in lines[1:] if x[:1] == " "]
    if rest and all(line.lstrip().startswith(("egl-fast", "|")) for line in rest):
        return "```sh\n" + inspect.cleandoc("\n".join(rest)) + "\n```"
    pairs = [re.fullmatch(r"\s+(\S+)\s{2,}(\S.*)", line) for line in rest]
    if rest and all(pairs):
        rows = ((f"`{pair[1]}`", prose(pair[2])) for pair in pairs if pair)
        return table((_joined("\n".join(heading)).rstrip(":").lower(), "meaning"), rows)
    if rest:
        return "```text\n" + inspect.cleandoc("\n".join(lines[1:])) + "\n```\n"
    return prose(_joined("\n".join(heading))) + "\n"


def _joined(text: str) -> str:
    return " ".join(word for word in text.split() if word != "\b")


def prose(text: str) -> str:
    """Help text as Markdown: options in code type, pages of docs/ as links, nothing emphasised."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):  # what is between code spans
        part = re.sub(r"([*<|])", r"\\\1", parts[i])
        part = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", part)
        parts[i] = re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](\1)", part)
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "commands.md")
    parser.parse_args().out.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
