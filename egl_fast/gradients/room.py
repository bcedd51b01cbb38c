"""How much memory gradients may take, and so how many rows a backward pass carries."""

from __future__ import annotations

import torch

from egl_fast.gradients.tape import Tape

#: Cotangent rows (utterances x cotangents) that one backward pass carries at most. More rows make
#: larger matrix products; beyond this they gain nothing.
ROWS_PER_PASS = 50

#: The same on a GPU. On an H200 a frame of a GRU of 512 units takes 17 TMAC/s with 2,048 rows, 18
#: with 4,096, 20 with 8,192 (benchmarks/gpu_timings.py); more rows cost memory.
CUDA_ROWS_PER_PASS = 4096

#: Bytes that gradients may take unless the caller says otherwise.
MEMORY_BYTES = 2**31

#: The same on a GPU, as a share of its memory.
CUDA_MEMORY_SHARE = 0.5

#: Below this, one row at a time is pulled back whatever it takes: less changes nothing.
LEAST_MEMORY_BYTES = 2**24


class Room:
    """The memory that gradients may take, beside the forward pass and the cotangents.

    Half of it is for the intermediate results of one backward pass, as far as they are known
    beforehand, so that long recordings get fewer rows a pass; and half for what is kept from pass
    to pass. A single row is pulled back whatever it takes.

    Args:
        memory_bytes: both halves; None: ``default_memory_bytes``.
        device: of the model.

    Raises:
        ValueError: it is not a number of bytes.
    """

    def __init__(self, memory_bytes: int | None, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.use(default_memory_bytes(device) if memory_bytes is None else memory_bytes)

    def use(self, memory_bytes: int) -> None:
        """Let gradients take so much from now on."""
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool) or memory_bytes < 1:
            raise ValueError(f"memory_bytes: expected at least 1, got {memory_bytes!r}")
        self.memory_bytes = memory_bytes
        self.pass_bytes = memory_bytes // 2

    def halve(self) -> bool:
        """Make do with half the memory from now on; False where that is next to nothing."""
        if self.memory_bytes <= LEAST_MEMORY_BYTES:
            return False
        self.use(self.memory_bytes // 2)
        return True

    @property
    def rows_per_pass(self) -> int:
        """Cotangent rows (utterances x cotangents) that one backward pass carries at most."""
        return CUDA_ROWS_PER_PASS if self._on_gpu else ROWS_PER_PASS

    @staticmethod
    def row_bytes(tape: Tape) -> int:
        """Bytes that a backward pass takes for one cotangent of each of the tape's utterances."""
        calls, direct = tape.reachable
        numbers = sum(call.output.numel() for call in calls)
        numbers += sum(parameter.numel() for parameter in direct.values())
        # At its widest, a pass holds the cotangents it will return, and about as much under way.
        return 2 * numbers * tape.logits.element_size()

    def passes(self, tape: Tape, num_rows: int) -> list[slice]:
        """Which of an utterance's cotangents go together: as few passes as fit, of like size."""
        fitting = self.pass_bytes // max(1, self.row_bytes(tape))
        most = max(1, min(self.rows_per_pass // tape.logits.shape[0], fitting))
        size = -(-num_rows // max(1, -(-num_rows // most)))
        return [
            slice(start, min(start + size, num_rows)) for start in range(0, num_rows, max(1, size))
        ]

    def holds_gradients(self, tape: Tape, num_rows: int) -> bool:
        """Whether there is room for all inner products of so many cotangents of an utterance."""
        passes = self.passes(tape, num_rows)
        if len(passes) <= 1:
            return True
        # A gradient has no more coordinates than numbers, nor than the cotangents it is made of.
        calls, direct = tape.reachable
        numbers = sum(parameter.numel() for parameter in direct.values())
        for call in calls:
            of_parameters = sum(tape.parameters[name].numel() for name in call.parameters.values())
            numbers += min(call.output.numel(), of_parameters)
        return bool(passes[-1].start * numbers * tape.logits.element_size() <= self.pass_bytes)


def default_memory_bytes(device: torch.device) -> int:
    """What gradients may take where the caller does not say."""
    if device.type == "cuda":
        return int(CUDA_MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return MEMORY_BYTES
