"""Runs the tutorial with a real Label Studio, on this machine alone.

    python python_tests/check_label_studio.py               # `make check-label-studio`
    python python_tests/check_label_studio.py --venv DIR    # with the one that is installed there

Label Studio, at the version of docs/tutorial.md, gets its own environment, which is
kept in build/label-studio. The server listens on 127.0.0.1, keeps its data in a temporary folder,
and is stopped in any case. What the tutorial's reader does in a browser is done by the API. Exit
status 0 if everything comes out right; otherwise 1, and the last line says what did not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from documentation import ROOT, Block, blocks
from label_studio_export import annotation, exported, transcripts
from test_doc_examples import Example, run, session

PAGE = ROOT / "docs" / "tutorial.md"
#: Seconds that the server has to start in: it makes its database first.
PATIENCE = 600
#: Of a server that only lives for this run.
TOKEN = "0123456789abcdef0123456789abcdef01234567"


class BrokenError(Exception):
    """One line that says what failed."""


def main() -> int:
    """Run all steps; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / "build" / "label-studio")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        program = installed(options.venv)
        print(f"Label Studio is installed ({time.monotonic() - start:.0f} s)", flush=True)
        with tempfile.TemporaryDirectory(prefix="egl-fast-tutorial-") as folder:
            check(program, Path(folder))
    except BrokenError as error:
        print(f"check_label_studio: {error}", file=sys.stderr)
        return 1
    print(f"the tutorial comes out right: {time.monotonic() - start:.0f} s")
    return 0


def installed(folder: Path) -> Path:
    """The program; makes its environment if there is none."""
    program = folder / "bin" / "label-studio"
    if not program.exists():
        [pinned] = re.findall(r"label-studio==[\d.]+", PAGE.read_text("utf-8"))
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", pinned]
        if subprocess.run(pip).returncode != 0:
            raise BrokenError(f"pip cannot install {pinned}")
    return program


def check(program: Path, folder: Path) -> None:
    """The tutorial from its first command to its last, in an empty folder."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    commands = session(PAGE)
    [comes_back] = [n for n, one in enumerate(commands) if " export.json" in one.command]
    with server(program, folder) as (api, has_ended):
        finish(commands[:comes_back], folder)  # while it makes its database
        tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
        await_start(api, has_ended)
        project = new_project(api, folder, "tasks.json")
        check_tasks(api, project, tasks, folder)
        said = annotate(api, project)
        exports = {kind: api.export(project, kind) for kind in ("JSON", "JSON_MIN", "CSV")}
        (folder / "export.json").write_bytes(exports["JSON"])
        check_shape(json.loads(exports["JSON"]), exported(tasks))
        for kind, content in exports.items():
            check_labels(folder, kind, content, said)
        finish(commands[comes_back:], folder)
        sent = {task["data"]["utterance_id"] for task in tasks}
        again = json.loads((folder / "tasks2.json").read_text("utf-8"))
        expect("no task of the first round in the second", not sent & ids_of(again))
        second = new_project(api, folder, "tasks2.json")
        expect("the second round's tasks", ids_of(api.tasks(second)) == ids_of(again))


def finish(commands: list[Example], folder: Path) -> None:
    """Run commands of the page, and show them."""
    start = time.monotonic()
    following = [*commands[1:], Example("", None)]
    for one, after, (status, output) in zip(
        commands, following, run(commands, folder), strict=True
    ):
        print(f"$ {one.command}\n{output}", end="", flush=True)
        if status != 0 and after.command != "echo $?":
            raise BrokenError(f"{one.command}: exit status {status}")
    print(f"({time.monotonic() - start:.0f} s)", flush=True)


class Api:
    """Label Studio's API, on this machine."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"

    def raw(self, path: str, content: Any = None) -> bytes:
        """What a path holds, or answers to content."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._root + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise BrokenError(f"{path}: {error.code} {error.read()[:500]!r}") from None

    def __call__(self, path: str, content: Any = None) -> Any:
        """The same as JSON."""
        return json.loads(self.raw(path, content))

    def tasks(self, project: int, more: str = "") -> list[dict[str, Any]]:
        """All tasks of a project."""
        found = self(f"/api/tasks?project={project}&fields=all&page_size=100{more}")
        return list(found["tasks"])

    def export(self, project: int, kind: str) -> bytes:
        """What its page downloads."""
        return self.raw(f"/api/projects/{project}/export?exportType={kind}")


@contextmanager
def server(program: Path, folder: Path) -> Iterator[tuple[Api, Callable[[], bool]]]:
    """Label Studio with the page's settings, and whether it has ended; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "server"
    data.mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LABEL_STUDIO"))},
        **settings_of_page(folder),
        "HOME": str(data),
        "LABEL_STUDIO_USERNAME": "annotator@example.com",
        "LABEL_STUDIO_PASSWORD": "of-this-run-only",
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    command = [program, "start", "--no-browser", "--data-dir", data, "--port", str(port)]
    command += ["--internal-host", "127.0.0.1"]
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Api(port), lambda: process.poll() is not None
    except BrokenError:
        print((data / "log").read_text("utf-8", "replace")[-4000:], file=sys.stderr)
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def settings_of_page(folder: Path) -> dict[str, str]:
    """The variables that the page sets for the server."""
    [block] = [one for one in blocks(PAGE) if starts_server(one)]
    found = re.findall(r"(LABEL_STUDIO_\w+)=(\S+)", block.content)
    return {name: value.strip('"').replace("$PWD", str(folder)) for name, value in found}


def starts_server(block: Block) -> bool:
    return "label-studio start" in block.content


def await_start(api: Api, has_ended: Callable[[], bool]) -> None:
    """Return when the server answers."""
    start = time.monotonic()
    while True:
        try:
            version = api("/api/version")["release"]
        except (OSError, BrokenError):
            if has_ended() or time.monotonic() - start > PATIENCE:
                raise BrokenError("Label Studio does not start; its log is above") from None
            time.sleep(1.0)
        else:
            print(f"Label Studio {version} runs", flush=True)
            return


def new_project(api: Api, folder: Path, tasks: str) -> int:
    """A project as the page makes one: labeling configuration, storage, tasks."""
    config = (folder / f"{tasks}.labeling.xml").read_text("utf-8")
    project = int(api("/api/projects", {"title": f"of {tasks}", "label_config": config})["id"])
    place = {"project": project, "path": str(folder / "recordings"), "use_blob_urls": True}
    api("/api/storages/localfiles", place)
    content = json.loads((folder / tasks).read_text("utf-8"))
    done = api(f"/api/projects/{project}/import", content)
    counts = (done["task_count"], done["prediction_count"])
    expect(f"{len(content)} tasks and predictions, not {counts}", counts == (len(content),) * 2)
    return project


def check_tasks(api: Api, project: int, tasks: list[dict[str, Any]], folder: Path) -> None:
    """Order, prediction to fill in, recordings, and columns to sort by."""
    kept = api.tasks(project)
    expect("tasks in ranked order", [t["data"] for t in kept] == [t["data"] for t in tasks])
    settings = api(f"/api/projects/{project}")
    is_on = settings["show_collab_predictions"] and settings["model_version"] == "egl-fast"
    expect("predictions that prelabel without a setting", is_on)
    first = api(f"/api/projects/{project}/next")
    [prediction] = first["predictions"]
    heard = prediction["result"][0]["value"]["text"]
    expect("the first task filled in", heard == [tasks[0]["data"]["pred_text"]])
    for task in kept:
        recording = (folder / task["data"]["audio_filepath"]).read_bytes()
        expect(f"{task['data']['audio']} served", api.raw(task["data"]["audio"]) == recording)
    ranks = [task["data"]["rank"] for task in kept]
    for key, wanted in (("-rank", ranks[::-1]), ("score", ranks[::-1])):
        minus, name = key[: key.startswith("-")], key.lstrip("-")
        view = {"project": project, "data": {"ordering": [f"{minus}tasks:data.{name}"]}}
        view_id = api("/api/dm/views", view)["id"]
        order = [t["data"]["rank"] for t in api.tasks(project, f"&view={view_id}")]
        expect(f"order by {key}: {order}", order == wanted)


def annotate(api: Api, project: int) -> dict[str, str]:
    """Transcribe or skip every task; transcripts by id."""
    truth = transcripts()
    said = {}
    for task in api.tasks(project):
        answer = annotation(task, truth)
        api(f"/api/tasks/{task['id']}/annotations/?project={project}", answer)
        if not answer["was_cancelled"]:
            [said[task["data"]["utterance_id"]]] = answer["result"][0]["value"]["text"]
    expect(f"ten transcripts, not {len(said)}", len(said) >= 10)
    return said


def check_labels(folder: Path, kind: str, content: bytes, said: dict[str, str]) -> None:
    """``labels`` finds the transcripts in an export."""
    export, out = folder / f"again.{kind}", f"again.{kind}.jsonl"
    export.write_bytes(content)
    command = f"egl-fast labels tasks.json {export.name} --out {out} --quiet"
    [(status, output)] = run([Example(command, None)], folder)
    expect(f"{kind}: exit status 3, for those that were skipped: {output}", status == 3)
    lines = map(json.loads, (folder / out).read_text("utf-8").splitlines())
    found = {line["id"]: line["text"] for line in lines}
    expect(f"{kind}: transcripts {found}", found == said)


def check_shape(export: list[dict[str, Any]], made_up: list[dict[str, Any]]) -> None:
    """The tests' stand-in has the structure of what was exported, skipped tasks included."""
    for real, ours in zip(export, made_up, strict=True):
        same = shape(real) == shape(ours)
        expect(f"an export like the stand-in's: {shape(real)} is not {shape(ours)}", same)


def shape(value: Any) -> Any:
    """Keys and types."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def ids_of(tasks: list[dict[str, Any]]) -> set[str]:
    """The recordings of tasks."""
    return {task["data"]["utterance_id"] for task in tasks}


def expect(what: str, is_so: bool) -> None:
    """Raise ``BrokenError`` if something is not so."""
    if not is_so:
        raise BrokenError(f"expected {what}")


if __name__ == "__main__":
    sys.exit(main())
