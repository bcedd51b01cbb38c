"""Examples in the documentation: commands parse, and sessions print what is shown.

Every call of ``egl-fast`` in a code block is parsed by its command; make targets and scripts of
this repository are looked up, with their options. A ``console`` block is a session: lines after
``$`` (and ``>``, if they continue) are run and must print what is shown below them; ``...`` matches
anything. A ``python`` block must print the ``text`` block that follows it, if any. A page runs in
order, in one folder with a copy of ``examples/``. A command fails if its status is not 0, unless
``$ echo $?`` comes next.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import click
import pytest
from commands import for_shells
from documentation import PAGES, ROOT, Block, blocks, code_spans, name_of, shell_lines

from egl_fast.cli.main import COMMANDS, cli
from egl_fast.errors import MissingExtraError
from egl_fast.files import copies

#: What is checked in a block without a language.
PROGRAMS = ("egl-fast", "make", "python")

#: Pages that need more than their own commands, or too long, and the tests that run them.
RUN_ELSEWHERE = {
    "README.md": "test_docs.py::test_the_python_of_the_readme_runs",
    "docs/tutorial.md": "test_tutorial.py, with a stand-in for what people do in a browser",
}

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Example:
    """A command of a session and its output; None: any output."""

    command: str
    expected: str | None


def commands_of_session(block: Block) -> Iterator[Example]:
    """The commands of a ``console`` block."""
    for part in re.split(r"^\$ ", block.content, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines(keepends=True)
        more = 0
        while more < len(rest) and rest[more].startswith("> "):
            more += 1
        command = first + "".join(line.removeprefix("> ") for line in rest[:more])
        yield Example(command.rstrip("\n"), "".join(rest[more:]))


def command_lines(page: Path) -> Iterator[tuple[str, str]]:
    """(place, command) of every command in a block of a page."""
    for block in blocks(page):
        if block.language == "console":
            lines = [example.command for example in commands_of_session(block)]
        elif block.language in ("sh", ""):
            lines = shell_lines(block.content)
        else:
            continue
        for line in lines:
            if block.language or line.lstrip().startswith(PROGRAMS):
                yield str(block), line


def calls(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            while words and re.fullmatch(r"\w+=.*", words[0]):  # a variable for this call only
                del words[0]
            redirected = word[0] in "<>"
            if words and not redirected:
                yield words
                words = []
        elif redirected:
            redirected = False
        else:
            words.append(word)


def fault(line: str, *, complete: bool = True) -> str | None:
    """What would keep a line from working, as far as can be told without running it.

    Args:
        line: of shell.
        complete: whether options that are required have to be there.
    """
    for words in calls(line):
        if words[0] == "egl-fast":
            found = fault_of_call(words[1:], complete=complete)
        elif words[0] == "make":
            targets = [w for w in words[1:] if re.fullmatch(r"[a-z][a-z-]*", w)]
            wrong = [t for t in targets if not re.search(rf"^{t}:.*## ", MAKEFILE, re.MULTILINE)]
            found = f"no target {wrong[0]}" if wrong else None
        elif words[0].startswith("python") and len(words) > 1 and words[1].endswith(".py"):
            found = fault_of_script(words[1], words[2:])
        else:
            found = None
        if found is not None:
            return found
    return None


def fault_of_call(arguments: list[str], *, complete: bool) -> str | None:
    """What egl-fast's own parser says, without running anything."""
    if not arguments or arguments[0] == "COMMAND":
        return None
    group = click.Context(cli, info_name="egl-fast")
    if arguments[0].startswith("-"):
        return None if arguments[0] in ("--help", "-h", "--version") else f"no {arguments[0]}"
    command = cli.get_command(group, arguments[0])
    if command is None:
        return f"no command {arguments[0]}"
    try:
        context = command.make_context(arguments[0], arguments[1:], parent=group)
        if complete and (rules := getattr(command.callback, "rules", None)) is not None:
            rules.check(context)
    except click.exceptions.Exit:  # --help
        return None
    except click.MissingParameter as error:
        return error.format_message() if complete else None
    except click.ClickException as error:
        return error.format_message()
    except MissingExtraError:  # which says that the option is right
        return None
    return None


def has_option(script: str, option: str) -> bool:
    """Whether the text of a script has an option, by ``add_argument`` or ``options_of``."""
    return f'"{option}"' in script or f"{option[2:]}=" in script


def fault_of_script(script: str, arguments: list[str]) -> str | None:
    """Whether the file is there, and it or what the scripts share has each option."""
    path = ROOT / script
    if not path.is_file():
        return f"no file {script}"
    text = path.read_text(encoding="utf-8")
    text += (ROOT / "benchmarks" / "script.py").read_text(encoding="utf-8")
    for word in arguments:
        option = word.partition("=")[0]
        if option.startswith("--") and not has_option(text, option):
            return f"no option {word} in {script}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_a_page_are_accepted(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The stores of a page do not exist.
    monkeypatch.setattr(copies._Copy, "fetch", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with copies.copies_of_a_command():
        found = [(place, line, fault(line)) for place, line in command_lines(page)]
    assert [wrong for wrong in found if wrong[2] is not None] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_a_pages_prose_are_accepted(page: Path) -> None:
    spans = [span for span in code_spans(page) if span.startswith(PROGRAMS)]
    found = [(span, fault(span, complete=False)) for span in spans]
    assert [wrong for wrong in found if wrong[1] is not None] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_in_a_pages_prose_exist(page: Path) -> None:
    context = click.Context(cli, info_name="egl-fast")
    known = {"--help", "--version"}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        known.update(word for one in command.params for word in (*one.opts, *one.secondary_opts))
    # Options of scripts that the page names.
    scripts = re.findall(r"python ([\w/]+\.py)", page.read_text(encoding="utf-8"))
    texts = "".join((ROOT / script).read_text(encoding="utf-8") for script in scripts)
    named = {
        word.partition("=")[0]
        for span in code_spans(page)
        if span.startswith("--")
        for word in span.split()
        if word.startswith("--")
    }
    assert {word for word in named - known if not has_option(texts, word)} == set()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("egl-fast score --model a --pool b --kk 3", "--kk"),
        ("egl-fast score --pool b", "--model"),
        ("egl-fast score --model a --pool b --k 0", "0"),
        ("EGL_ISA=avx2 egl-fast score --model a --pool b --method best | jq .egl", "best"),
        ("egl-fast dream", "dream"),
        ("echo a > b && make coffee", "coffee"),
        ("python benchmarks/nothing.py", "nothing.py"),
        ("python benchmarks/spanning.py rows --clip 3", "--clip"),
        ("egl-fast select scores.jsonl --budget 20% extra  # a word too many", "extra"),
    ],
)
def test_faults_in_examples_are_seen(line: str, complaint: str) -> None:
    assert complaint in (fault(line) or "")


def session(page: Path) -> list[Example]:
    """Everything on a page that is to be run, in order."""
    wanted: list[Example] = []
    of_page = list(blocks(page))
    for block, following in zip_longest(of_page, of_page[1:]):
        if block.language == "console":
            wanted += commands_of_session(block)
        elif block.language == "python":
            prints = following.content if following and following.language == "text" else None
            saved_as = re.match(r"# (\w+\.py)\n", block.content)
            if saved_as:
                heredoc = f"cat > {saved_as[1]} <<'END_OF_PYTHON'"
                wanted.append(Example(f"{heredoc}\n{block.content}END_OF_PYTHON", None))
                continue
            wanted.append(
                Example(f"python - <<'END_OF_PYTHON'\n{block.content}END_OF_PYTHON", prints)
            )
    return wanted


RUNNABLE = [page for page in PAGES if session(page) and name_of(page) not in RUN_ELSEWHERE]


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_sessions_come_out_as_written(page: Path, tmp_path: Path) -> None:
    comes_out_as_written(page, session(page), tmp_path)


def comes_out_as_written(page: Path, wanted: list[Example], folder: Path) -> None:
    """Run the examples of a page in a folder with a copy of the sample, and compare."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    runnable = [e for e in wanted if shutil.which("jq") or not calls_jq(e.command)]
    outputs = run(runnable, folder)
    checker = doctest.OutputChecker()
    following = [*runnable[1:], Example("", None)]
    for example, after, (status, output) in zip(runnable, following, outputs, strict=True):
        shown = f"{name_of(page)}: $ {example.command}\n{output}"
        assert status == 0 or after.command == "echo $?", f"{shown}status {status}"
        if example.expected is not None:
            same = checker.check_output(example.expected, output, doctest.ELLIPSIS)
            assert same, f"{shown}--- but the page has\n{example.expected}"
    if len(runnable) < len(wanted):
        pytest.skip(f"jq is not installed: {len(wanted) - len(runnable)} examples were not run")


def calls_jq(command: str) -> bool:
    return not command.startswith("python ") and any(w[0] == "jq" for w in calls(command))


def run(wanted: list[Example], folder: Path) -> list[tuple[int, str]]:
    """(status, output) of each command, all in one shell; standard error is part of the output."""
    end = "end-of-example"
    script = "set -o pipefail\n" + "".join(
        f"{example.command}\n__status=$?; printf '{end} %s\\n' $__status; (exit $__status)\n"
        for example in wanted
    )
    (folder / ".bin").mkdir(exist_ok=True)
    environment = {**for_shells(folder / ".bin"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    *parts, _ = re.split(rf"^{end} (\d+)\n", result.stdout, flags=re.MULTILINE)
    return [(int(status), output) for output, status in zip(parts[::2], parts[1::2], strict=True)]


@pytest.mark.parametrize(
    ("command", "expected", "comes_out"),
    [
        ("echo one\n> echo two", "one\ntwo\n", True),
        ("echo one 2 three", "one ... three\n", True),
        ("echo one", "two\n", False),
        ("false", "", False),
        ("false\n$ echo $?", "1\n", True),
    ],
)
def test_what_comes_out_differently_is_seen(
    command: str, expected: str, comes_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```console\n$ {command}\n{expected}```\n")
    monkeypatch.setattr(sys.modules[__name__], "name_of", str)
    if comes_out:
        test_sessions_come_out_as_written(page, tmp_path)
    else:
        with pytest.raises(AssertionError):
            test_sessions_come_out_as_written(page, tmp_path)
