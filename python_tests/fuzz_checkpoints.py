"""An endless supply of mutated model files: each must work, or raise a one-line CheckpointError.

``python python_tests/fuzz_checkpoints.py 20000`` runs that many, in child processes limited to
1 GiB and 2 s of CPU time per file; ``test_checkpoint_fuzz.py`` runs a few hundred.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch_archives as made
from recordings import random_checkpoint
from torch import Tensor

from egl_fast.checkpoint import Checkpoint, checkpoint_content, load_checkpoint, plain_config
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.errors import CheckpointError
from egl_fast.features import log_spectrogram

Mutation = tuple[str, bytes]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def laughs() -> list[Any]:
    value: list[Any] = ["ha"]
    for _ in range(30):
        value = [value] * 10
    return value


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


#: Values to put where a number, a string, a list, or a tensor belongs.
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(10**3000, 0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
    *("", "x", "gru", "16000", "\n", "\x1b[2J", "\ud800", "x" * 10**5, b"bytes", 1j),
    *([], {}, (), set(), [[]], [0] * 10**4, {"x": 1}, {7: 1}, {(1, 2): 3}, nested(60)),
    *(laughs(), cyclic(), range(3), torch.float32, torch.Size([2])),
    *(torch.zeros(()), torch.zeros(3), torch.full((4,), float("nan")), torch.zeros(0)),
    *(torch.zeros(2, 2, dtype=torch.int8), torch.zeros(2, dtype=torch.complex64)),
    *(torch.ones(1).expand(10**6, 10**6), torch.zeros(2, 2).to_sparse()),
    torch.zeros(2, 2).to("meta"),
]  # fmt: skip


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values of a dictionary, containers included."""
    if path:
        yield path
    if isinstance(content, dict):
        for name, value in content.items():
            yield from leaves(value, (*path, name))
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from leaves(value, (*path, place))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with one value replaced; tensors are shared."""
    changed = copy.copy(content)
    changed[path[0]] = replaced(content[path[0]], path[1:], value) if path[1:] else value
    return changed


def of_content(content: Any, rng: random.Random) -> Mutation:
    """The content with a few values replaced by hostile ones, or with one of another name."""
    paths = list(leaves(content))
    path = rng.choice(paths)
    if rng.random() > 0.9 and isinstance(path[-1], str):
        changed = copy.deepcopy(content)
        holder = changed
        for name in path[:-1]:
            holder = holder[name]
        holder[rng.choice([7, "x", "", "\n"])] = holder.pop(path[-1])
        label = f"{'.'.join(map(str, path))} renamed"
    else:
        changed, label = content, ""
        chosen = {path, *(rng.choice(paths) for _ in range(rng.choice([0, 0, 0, 1, 2])))}
        for path in sorted(chosen, key=len, reverse=True):  # what is inside another comes before it
            number = rng.randrange(len(HOSTILE))
            changed = replaced(changed, path, HOSTILE[number])
            label += f"{'.'.join(map(str, path))} = hostile value {number}; "
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return label, made.saved(changed)


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, dropped, duplicated, or moved."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 1, 2, 4, 8, rng.randrange(1, 200)])
        what = rng.randrange(6)
        if what == 0:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            changed[place : place + length] = bytes([rng.choice([0, 255, 127, 128])]) * length
        elif what == 2:
            del changed[place : place + length]
        elif what == 3:
            changed[place:place] = changed[place : place + length]
        elif what == 4:
            source = rng.randrange(len(changed) + 1)
            changed[place : place + length] = changed[source : source + length]
        else:
            changed[place:place] = rng.randbytes(length)
    return bytes(changed)


def of_bytes(archive: bytes, rng: random.Random) -> Mutation:
    """The file's own bytes, anywhere; often in the directory, which checksums do not cover."""
    if rng.random() < 0.2:
        return "cut", archive[: rng.randrange(len(archive))]
    start = archive.find(b"PK\x01\x02") if rng.random() < 0.7 else 0
    return "bytes", archive[:start] + scrambled(archive[start:], rng)


def of_program(archive: bytes, rng: random.Random) -> Mutation:
    """The pickle's bytes, with the right checksum."""
    return "program", made.with_program(
        archive, scrambled(made.members_of(archive)["data.pkl"], rng)
    )


def of_instructions(archive: bytes, rng: random.Random) -> Mutation:
    """One instruction of the pickle for another."""
    program = bytearray(made.members_of(archive)["data.pkl"])
    instructions = [value for value in vars(pickle).values() if isinstance(value, bytes)]
    places = [n for n, byte in enumerate(program) if bytes([byte]) in instructions]
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.choice(places)
        new = rng.choice([value for value in instructions if len(value) == 1])
        program[place : place + 1] = new + rng.choice([b"", b"", b"\x00", b"x\n", b"\x01\0\0\0"])
    return "instructions", made.with_program(archive, bytes(program))


def of_numbers(archive: bytes, rng: random.Random) -> Mutation:
    """The bytes of a tensor, with the right checksum."""
    members = made.members_of(archive)
    name = rng.choice([name for name in members if name.startswith("data/")])
    return f"numbers of {name}", made.archive_of({**members, name: scrambled(members[name], rng)})


#: Where fields of two and four bytes are, from the signs of a zip archive's records.
FIELDS = {
    b"PK\x03\x04": ([4, 6, 8, 26, 28], [14, 18, 22]),
    b"PK\x01\x02": ([4, 6, 8, 10, 28, 30, 32, 34], [16, 20, 24, 42]),
    b"PK\x05\x06": ([4, 6, 8, 10, 20], [12, 16]),
    b"PK\x06\x06": ([12, 14], [4, 8, 24, 32, 40, 48]),
    b"PK\x06\x07": ([4], [8, 16]),
}


def of_records(archive: bytes, rng: random.Random) -> Mutation:
    """A field of the archive's records replaced by an extreme value."""
    if rng.random() < 0.3:  # What Python writes has no ZIP64 records.
        archive = made.archive_of(made.members_of(archive))
    sign = rng.choice([sign for sign in FIELDS if sign in archive])
    found = [place for place in range(len(archive)) if archive.startswith(sign, place)]
    place, changed = rng.choice(found), bytearray(archive)
    width = rng.choice([2, 4])
    at = place + rng.choice(FIELDS[sign][width // 2 - 1])
    value = rng.choice([0, 1, 8, 12, 99, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, len(archive)])
    changed[at : at + width] = struct.pack("<Q", value)[:width]
    return f"{sign!r} + {at - place} = {value}", bytes(changed)


def of_members(archive: bytes, rng: random.Random) -> Mutation:
    """The archive with members removed, duplicated, renamed, compressed, swapped, or added."""
    members = list(made.members_of(archive).items())
    place = rng.randrange(len(members))
    name, value = members[place]
    what = rng.choice(["lost", "twice", "renamed", "exchanged", "added", "compressed", "emptied"])
    options: dict[str, Any] = {}
    if what == "lost":
        del members[place]
    elif what == "twice":
        members.insert(rng.randrange(len(members)), (name, value[::-1]))
    elif what == "renamed":
        new = rng.choice(["../" + name, "/" + name, name.upper(), "x", "", "data/../" + name])
        members[place] = (new, value)
    elif what == "exchanged":
        other = rng.randrange(len(members))
        members[place], members[other] = (
            (name, members[other][1]),
            (members[other][0], value),
        )
    elif what == "added":
        members.append((rng.choice(["constants.pkl", "data/99", "code/x.py", "é"]), b"x" * 1000))
    elif what == "emptied":
        members[place] = (name, b"")
    else:
        options["compress_type"] = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(file, "w") as target:
            for number, (member, data) in enumerate(members):
                target.writestr(f"archive/{member}", data, **(options if number == place else {}))
        file.seek(0)
        return f"{name} {what}", file.read()


class Fuzzer:
    """A valid file and its mutations.

    Args:
        folder: for the file.
        seed: of all mutations.
        original: the valid file's model; None: a random one.
    """

    def __init__(self, folder: Path, *, seed: int = 0, original: Checkpoint | None = None) -> None:
        self.path = folder / "mutated.pt"
        self.seed = seed
        original = original or random_checkpoint()
        original.training = {"epoch": 3, "note": "x", "losses": [1.5, None, True]}
        original.trusted = torch.ones(2, 2 * original.model.output.in_features + SIZE)
        self.content = checkpoint_content(original)
        self.archive = made.saved(self.content)
        self.waveform = torch.sin(torch.arange(8000) / 7)
        self.expected = self.logits(original)
        self._ways: list[Callable[[random.Random], Mutation]] = [
            lambda rng: of_content(self.content, rng),
            lambda rng: of_content(self.content, rng),
            lambda rng: of_bytes(self.archive, rng),
            lambda rng: of_program(self.archive, rng),
            lambda rng: of_instructions(self.archive, rng),
            lambda rng: of_numbers(self.archive, rng),
            lambda rng: of_records(self.archive, rng),
            lambda rng: of_members(self.archive, rng),
        ]

    def logits(self, checkpoint: Checkpoint) -> Tensor:
        """A model's output for a tone."""
        features = log_spectrogram(self.waveform, checkpoint.features)[None]
        with torch.inference_mode():
            logits: Tensor = checkpoint.model(features, torch.tensor([features.shape[1]]))[0]
        return logits

    def mutations(self) -> Iterator[Mutation]:
        """Every kind in turn."""
        for number in itertools.count():
            rng = random.Random(f"{self.seed} {number}")
            label, mutated = self._ways[number % len(self._ways)](rng)
            yield f"{number}: {label}", mutated

    def mutation(self, rng: random.Random) -> Mutation:
        """One of any kind."""
        return rng.choice(self._ways)(rng)

    def outcome(self, mutated: bytes) -> str:
        """What loading gives: "refused", or "same" or "other" for a model that works.

        Raises:
            AssertionError: a message has several lines, or the model does not work.
        """
        self.path.write_bytes(mutated)
        return self.outcome_of_file()

    def outcome_of_file(self) -> str:
        """The same for what is in the file."""
        try:
            loaded = load_checkpoint(self.path)
        except CheckpointError as error:
            message = str(error)
            assert message.startswith(f"model {self.path}: ")
            assert message.isprintable()
            assert len(message) < len(str(self.path)) + 500
            return "refused"
        state = loaded.model.state_dict()
        logits = self.logits(loaded)
        same = all(torch.equal(state[n], t) for n, t in self.content["state_dict"].items())
        sizes = plain_config(loaded.model.config) | {"dropout": 0.0}
        same = same and vars(loaded.features) == self.content["features"]
        if same and sizes == self.content["model"]:
            assert torch.equal(logits, self.expected)
            return "same"
        # Finite weights can still overflow; scoring says so.
        largest = max(float(t.abs().max()) for t in state.values())
        assert bool(logits.isfinite().all()) or largest > 1e12
        return "other"


def run_in_child(fuzzer: Fuzzer, mutations: list[Mutation]) -> None:
    """Run a batch under limits; print what breaks them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        for label, mutated in mutations:
            signal.setitimer(signal.ITIMER_PROF, 2.0)
            try:
                outcome = fuzzer.outcome(mutated)
            except BaseException as error:
                outcome = f"FAILED {label}: {type(error).__name__}: {error}"
            os.write(writer, outcome.replace("\n", " ").encode()[:500] + b"\n")
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as lines:
        outcomes = lines.read().splitlines()
    _, status = os.waitpid(child, 0)
    TALLY.extend(outcomes)
    if status != 0:
        label, mutated = mutations[len(outcomes)]
        kept = fuzzer.path.with_name(f"died-{len(TALLY)}.pt")
        kept.write_bytes(mutated)
        print(f"DIED (status {status}) {label}; kept as {kept}", flush=True)
    for outcome in outcomes:
        if outcome.startswith("FAILED"):
            print(outcome, flush=True)


TALLY: list[str] = []


def main() -> None:
    """Run the requested number of mutations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fuzzer = Fuzzer(Path(tempfile.mkdtemp()), seed=options.seed)
    mutations = itertools.islice(fuzzer.mutations(), options.count)
    while batch := list(itertools.islice(mutations, 200)):
        run_in_child(fuzzer, batch)
    for outcome in ("refused", "same", "other"):
        print(f"{outcome}: {TALLY.count(outcome)}")
    print(f"of {options.count}")
    sys.exit(len(TALLY) < options.count or any(line.startswith("FAILED") for line in TALLY))


if __name__ == "__main__":
    main()
