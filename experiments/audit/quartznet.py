"""The pretrained QuartzNet of a folder given by QUARTZNET_DIR, for ``--model``."""

import importlib.util
import os
from pathlib import Path

import torch

from egl_fast.recognizers.recognizer import Recognizer


def quartznet() -> Recognizer:
    folder = Path(os.environ["QUARTZNET_DIR"])
    spec = importlib.util.spec_from_file_location("quartznet", folder / "quartznet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load(folder / "quartznet15x5_en.fp16.pt")

    def front_end(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return samples[None], torch.tensor([len(samples)])

    return Recognizer.of(model, [*module.VOCAB, "<blank>"], front_end, blank=module.BLANK)
