"""A folder of adapters, such as LoRA's, as peft saves them, without the base model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from egl_fast.data.strict_json import json_value
from egl_fast.errors import MissingExtraError, ModelError, one_line

_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapters:
    """Adapters in a folder.

    Attributes:
        folder: where they are.
        base: the model they were trained on, a folder or a hub name.
        settings: what else their outputs depend on.
    """

    folder: Path
    base: str
    settings: dict[str, Any]

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> Adapters | None:
        """The adapters in a folder; None if it holds something else.

        Raises:
            ModelError: their configuration cannot be read, or names no base model.
        """
        if not (folder / _CONFIG).is_file():
            return None
        try:
            settings = json_value((folder / _CONFIG).read_bytes())
            base = settings.pop("base_model_name_or_path")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{name}: {_CONFIG} cannot be used ({one_line(error)})") from error
        if not isinstance(base, str) or not base:
            raise ModelError(
                f"{name}: {_CONFIG} does not name the model that the adapters belong to; write its "
                "folder there as base_model_name_or_path"
            )
        return cls(folder, base, settings)

    def own_weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of weights that are replaced rather than adapted, such as a new output layer's."""
        safetensors: Any = import_module("safetensors")
        prefix = "base_model.model."
        path = self.folder / "adapter_model.safetensors"
        if not path.is_file():  # a pickle, which the user allowed
            return {}
        with safetensors.safe_open(path, "pt") as file:
            return {
                key.removeprefix(prefix): tuple(file.get_slice(key).get_shape())
                for key in file.keys()  # noqa: SIM118
                if "lora_" not in key
            }

    def applied_to(self, base: nn.Module, name: str) -> nn.Module:
        """The base model with the adapters in place; only what was trained requires a gradient.

        Raises:
            MissingExtraError: peft is not installed.
            ModelError: they do not fit.
        """
        try:
            peft: Any = import_module("peft")
        except ImportError:
            raise MissingExtraError(
                f"{name}: holds adapters, which need peft: pip install peft"
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of one library about another
                wrapped = peft.PeftModel.from_pretrained(base, str(self.folder), is_trainable=True)
        except Exception as error:
            raise ModelError(
                f"{name}: the adapters do not fit {self.base} ({one_line(error)[:300]})"
            ) from error
        if wrapped.active_peft_config.is_prompt_learning:
            raise ModelError(f"{name}: holds prompts, which are no part of a CTC model")
        module: nn.Module = wrapped.get_base_model()
        return module
