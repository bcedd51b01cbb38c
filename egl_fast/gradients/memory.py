"""How much memory gradients may take, and so how many rows share a backward pass."""

from __future__ import annotations

import math

import torch

from egl_fast.compute.memory import machine_memory_bytes
from egl_fast.gradients.stages import Stage, joined
from egl_fast.gradients.tape import Tape

#: Most cotangent rows (utterances x cotangents) in one backward pass. More rows mean larger matrix
#: products; beyond this they gain nothing.
ROWS_PER_PASS = 50

#: The same on a GPU. On an H200 a frame of a GRU of 512 units takes 17 TMAC/s with 2,048 rows, 18
#: with 4,096, 20 with 8,192 (benchmarks/gpu_timings.py); more rows cost memory.
CUDA_ROWS_PER_PASS = 4096

#: Default memory for gradients, as a share of the machine's, and its maximum. More gains nothing:
#: rows that do not fit at once go through the model in stages.
MEMORY_SHARE = 0.25
MOST_MEMORY_BYTES = 2**32

#: The same on a GPU, as a share of its memory.
CUDA_MEMORY_SHARE = 0.5

#: ``GradientMemory.halve`` stops here: with less, one row at a time is pulled back anyway.
LEAST_MEMORY_BYTES = 2**24


class GradientMemory:
    """The memory for gradients, in addition to the forward pass and the cotangents.

    Half of it is for the intermediate results of one backward pass, as far as they can be
    predicted, so long recordings go through the model in stages, or with fewer rows per pass. The
    other half is for gradients that are kept from pass to pass. A single row is pulled back even if
    it does not fit. By default it is a quarter of the machine's memory, but at most 4 GiB; on a
    GPU, half of the GPU's.

    Attributes:
        total_bytes: both halves.
        pass_bytes: for one pass.
        warned_of_lost_bases: whether the user was warned that ``holds_gradients`` was false.

    Raises:
        ValueError: it is not a number of bytes.
    """

    def __init__(self, memory_bytes: int | None, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        if memory_bytes is None:
            if self._on_gpu:
                available = torch.cuda.get_device_properties(device).total_memory
                memory_bytes = int(CUDA_MEMORY_SHARE * available)
            else:
                # A power of two: a run may be resumed on another machine of the same kind, and what
                # its kernel keeps for itself differs by some megabytes.
                share = round(math.log2(MEMORY_SHARE * machine_memory_bytes()))
                memory_bytes = min(2**share, MOST_MEMORY_BYTES)
        self.use(memory_bytes)
        #: The initial ``total_bytes``, which is lowered when memory runs out.
        self.planned_bytes = memory_bytes
        self.warned_of_lost_bases = False

    def use(self, memory_bytes: int) -> None:
        """Change the memory for gradients."""
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool) or memory_bytes < 1:
            raise ValueError(f"memory_bytes: expected at least 1, got {memory_bytes!r}")
        self.total_bytes = memory_bytes
        self.pass_bytes = memory_bytes // 2

    def halve(self) -> bool:
        """Use half the memory from now on; False if there is next to nothing left."""
        if self.total_bytes <= LEAST_MEMORY_BYTES:
            return False
        self.use(self.total_bytes // 2)
        return True

    @property
    def rows_per_pass(self) -> int:
        """Most cotangent rows (utterances x cotangents) in one backward pass."""
        return CUDA_ROWS_PER_PASS if self._on_gpu else ROWS_PER_PASS

    @staticmethod
    def row_bytes(tape: Tape) -> int:
        """Bytes that a backward pass takes for one cotangent of each of the tape's utterances."""
        return _row_bytes(tape, tape.stage.numbers)

    def stages(self, tape: Tape, num_rows: int) -> list[Stage]:
        """The stages of a pass: one, or several if all rows fit together only then.

        That takes the same operations as a pass of all rows, and no padding.
        """
        if len(self.passes(tape, num_rows)) <= -(-num_rows // self._most_rows(tape)):
            return [tape.stage]
        most = self.pass_bytes / max(1, num_rows * _row_bytes(tape, 1))
        stages = joined(tape.stages, most)
        return stages if max(stage.numbers for stage in stages) <= most else [tape.stage]

    def passes(self, tape: Tape, num_rows: int) -> list[slice]:
        """An utterance's cotangents in as few passes as fit into memory, of similar size.

        Of all stages at once; in stages, there is one pass.
        """
        fitting = self.pass_bytes // max(1, self.row_bytes(tape))
        most = max(1, min(self._most_rows(tape), fitting))
        size = -(-num_rows // max(1, -(-num_rows // most)))
        return [
            slice(start, min(start + size, num_rows)) for start in range(0, num_rows, max(1, size))
        ]

    def holds_gradients(self, tape: Tape, num_rows: int) -> bool:
        """Whether memory suffices for the inner products of all pairs of an utterance's rows."""
        return self._holds_passes(tape, num_rows) or len(self.stages(tape, num_rows)) > 1

    def least_bytes(self, tape: Tape, num_rows: int) -> int:
        """Memory for gradients that the inner products of this many rows need, in stages."""
        return 2 * num_rows * _row_bytes(tape, max(stage.numbers for stage in tape.stages))

    def _most_rows(self, tape: Tape) -> int:
        """Cotangents of each utterance in a pass, if memory allows."""
        return max(1, self.rows_per_pass // tape.logits.shape[0])

    def _holds_passes(self, tape: Tape, num_rows: int) -> bool:
        passes = self.passes(tape, num_rows)
        if len(passes) <= 1:
            return True
        # A gradient has at most as many coordinates as numbers, or as its cotangent has numbers.
        calls, direct = tape.reachable
        numbers = sum(parameter.numel() for parameter in direct.values())
        for call in calls:
            of_parameters = sum(tape.parameters[name].numel() for name in call.names)
            numbers += of_parameters if call.computed else min(call.output.numel(), of_parameters)
        return bool(passes[-1].start * numbers * tape.logits.element_size() <= self.pass_bytes)


def _row_bytes(tape: Tape, numbers: int) -> int:
    # At its peak, a pass holds the cotangents it will return, and about as much in transit.
    return 2 * numbers * tape.logits.element_size()
