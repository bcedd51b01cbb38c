"""The reader of model files under Atheris: any bytes are a model that works, or one line of error.

    python fuzz/checkpoints.py FOLDER... -max_total_time=60    fuzz; FOLDERs hold inputs
    python fuzz/checkpoints.py --seeds FOLDER                  write the inputs to start from

The first byte of an input tells what the rest is: a whole file, the pickle in one, or choices. A
pickle is put into a file with right checksums beside the numbers of a valid model, since no
mutation would find those. Choices take the place of the random numbers by which
``fuzz_checkpoints.py`` changes values, weights, members, and records of a valid file, so that what
comes after the pickle is reached. While a file is read, nothing may be run, imported, connected to,
or written, as Python's audit events tell. libFuzzer watches time and memory.

``python_tests/test_fuzz_corpora.py`` replays ``corpus/checkpoints`` without Atheris.
"""

from __future__ import annotations

import codecs
import io
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "python_tests")]

#: What reading a model file has no business with; names of audit events.
FORBIDDEN = (
    *("exec", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "code.__new__"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod"),
    *("socket.connect", "socket.bind", "urllib.Request", "shutil.rmtree", "tempfile.mkstemp"),
)


class Choices(random.Random):
    """Random numbers that are the bytes of an input; zero past their end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = io.BytesIO(data)

    def getrandbits(self, count: int, /) -> int:
        size = (count + 7) // 8
        return int.from_bytes(self._data.read(size).ljust(size, b"\0"), "big") >> (8 * size - count)

    def random(self) -> float:
        return self.getrandbits(8) / 256


class Reader:
    """Gives inputs to ``load_checkpoint``, as a file in a folder. Its audit hook stays for good."""

    def __init__(self, folder: Path) -> None:
        import torch_archives
        from fuzz_checkpoints import Fuzzer
        from recordings import random_checkpoint

        from egl_fast.checkpoint import Checkpoint
        from egl_fast.features import FeatureConfig
        from egl_fast.model import ConvShape, DeepSpeech2

        config = replace(
            random_checkpoint().model.config,
            num_bins=9,
            num_classes=3,
            conv_channels=1,
            conv_shapes=(ConvShape((3, 3), (2, 2)),),
            num_layers=1,
            hidden_size=2,
        )
        features = FeatureConfig(sample_rate_hz=1000, window_seconds=0.016)
        small = Checkpoint(DeepSpeech2(config).eval(), features, ("<blank>", " ", "a"))
        with torch_archives.torch.no_grad():
            for number, weight in enumerate(small.model.parameters()):
                weight.fill_(0.1 * (number % 5 - 2))
        self._with_program = torch_archives.with_program
        self._fuzzer = Fuzzer(folder, original=small)
        self.archive = self._fuzzer.archive
        self.program = torch_archives.members_of(self.archive)["data.pkl"]
        self._seen: list[str] = []
        self._is_reading = False
        for valid in (b"\0" + self.archive, b"\1" + self.program):
            assert self.read(valid) == "same"
        # Codecs of texts, member names, and pickled strings are imported when first used.
        for codec in ("utf-8-sig", "utf-16", "utf-32", "cp437", "ascii", "raw-unicode-escape"):
            codecs.lookup(codec)
        repr(torch_archives.torch.zeros(1))  # so is a part of torch
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_reading:
            return
        is_write = (
            event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1])
        )
        if event in FORBIDDEN or is_write:
            # An exception could be caught by what is being watched.
            self._seen.append(f"{event} {arguments!r:.200}")

    def read(self, data: bytes) -> str:
        """What becomes of an input; see ``Fuzzer.outcome``. Raises ``AssertionError``."""
        kind, rest = data[:1], data[1:]
        if kind == b"\1":
            rest = self._with_program(self.archive, rest)
        elif kind == b"\2":
            _, rest = self._fuzzer.mutation(Choices(rest))
        self._fuzzer.path.write_bytes(rest)
        self._seen.clear()
        self._is_reading = True
        try:
            outcome = self._fuzzer.outcome_of_file()
        finally:
            self._is_reading = False
        assert not self._seen, f"reading a model file did more than that: {self._seen}"
        return outcome


def main() -> None:
    """Fuzz, or write seeds."""
    if sys.argv[1] == "--seeds":
        folder, reader = Path(sys.argv[2]), Reader(Path(tempfile.mkdtemp()))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(b"\0" + reader.archive)
        (folder / "pickle").write_bytes(b"\1" + reader.program)
        for way in range(0, 256, 32):
            for choice in range(0, 256, 4):
                choices = bytes([2, way, *[choice, 7 * choice % 256] * 3])
                (folder / f"choices-{way}-{choice}").write_bytes(choices)
        return
    import atheris

    with atheris.instrument_imports(include=["egl_fast", "zipfile", "pickletools"]):
        import egl_fast.checkpoint  # noqa: F401
    reader = Reader(Path(tempfile.mkdtemp()))
    # For merging corpora, libFuzzer gives the program's name to a shell.
    program = f"{sys.executable} {__file__}"
    atheris.Setup([program, *sys.argv[1:]], lambda data: reader.read(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
