"""``hf:DIR``: a CTC model of Hugging Face, with its feature extractor and its tokenizer.

Nothing that comes with a model is executed: code in its folder and pickled weights are refused
unless the user allows them by name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egl_fast.errors import EglError, MissingExtraError, ModelError, one_line
from egl_fast.recognizers.adapters import Adapters
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.front_end import WaveformFunction
from egl_fast.recognizers.identity import identity_of
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.recognizers.tokenizer_file import refusing_unknown

#: Weights that are a pickle.
_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")

#: The parts of a processor: the class that reads each, and its purpose.
_PARTS = {
    "feature_extractor": ("AutoFeatureExtractor", "makes the model's input"),
    "tokenizer": ("AutoTokenizer", "names the model's classes"),
}
_PROCESSOR = "save it there as well: processor.save_pretrained(DIR)"

#: The weights of an output layer, which adapters may replace.
_HEAD = "lm_head.weight"

#: Settings of a configuration that say where it came from, not what it is.
_ORIGINS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


def load(source: str, *, requests: frozenset[str], device: torch.device) -> Recognizer:
    """The recognizer in a folder that ``save_pretrained`` wrote, or on a hub.

    Args:
        source: the folder; or the model's name, if a hub can be reached.
        requests: see ``spec.REQUESTS``.
        device: where to put the model.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: something is missing, or not what it should be; the message says what is needed.
    """
    name = f"model {'+'.join(['hf', *sorted(requests)])}:{source}"
    pickle, trusts = "pickle" in requests, "trust_remote_code" in requests
    _refuse_other_files(Path(source), name, pickle=pickle)
    adapters = Adapters.in_folder(Path(source), name)
    base = source if adapters is None else adapters.base
    if adapters is not None:
        _refuse_other_files(Path(base), f"{name}: its base model {base}", pickle=pickle)
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise MissingExtraError(f"{name}: needs transformers: pip install 'egl-fast[hf]'") from None

    def read(kind: str, place: str = base, **more: Any) -> Any:
        options = {"trust_remote_code": trusts, "local_files_only": os.path.isdir(place)}
        try:
            return getattr(transformers, kind).from_pretrained(place, **options, **more)
        except Exception as error:
            raise _unreadable(name, error, place=place, trusts=trusts) from error

    with _silent(transformers):
        config = read("AutoConfig")
        _refuse_other_models(transformers, config, name)
        extractor, tokenizer = _processor(read, [source, base], name)
        replaced = {} if adapters is None else adapters.own_weights()
        if _HEAD in replaced:
            config.vocab_size, config.pad_token_id = replaced[_HEAD][0], tokenizer.pad_token_id
        module, found = read(
            "AutoModelForCTC",
            config=config,
            dtype=torch.float32,
            use_safetensors=None if pickle else True,
            output_loading_info=True,
            ignore_mismatched_sizes=_HEAD in replaced,
        )
    missing = sorted(key for key in found["missing_keys"] if key not in replaced)
    if missing:
        of = " and ".join(getattr(config, "architectures", None) or ["another model"])
        raise ModelError(
            f"{name}: lacks the weights {', '.join(missing[:3])}: it was saved from {of}, which "
            "has no CTC head; give a model that was fine-tuned with one"
        )
    settings = {"config": {k: v for k, v in config.to_dict().items() if k not in _ORIGINS}}
    if adapters is not None:
        module = adapters.applied_to(module, name)
        settings["adapters"] = adapters.settings
    return _recognizer_of(module.to(device).eval(), config, settings, extractor, tokenizer)


def _recognizer_of(
    module: nn.Module, config: Any, settings: dict[str, Any], extractor: Any, tokenizer: Any
) -> Recognizer:
    num_classes = int(config.vocab_size)
    names = [f"<unused {index}>" for index in range(num_classes)]
    unused = set(range(num_classes))
    for text, index in tokenizer.get_vocab().items():
        if index < num_classes:  # some tokenizers have tokens that the model never learned
            names[index] = text
            unused.discard(index)
    blank = config.pad_token_id  # the models' own loss uses it as the blank
    if blank is None:
        blank = tokenizer.pad_token_id or 0
    classes = Classes.of(
        names,
        int(blank),
        special=unused.union(i for i in tokenizer.all_special_ids if i < num_classes),
        delimiter=getattr(tokenizer, "word_delimiter_token", None),
        encode=refusing_unknown(
            lambda text: tokenizer(text, add_special_tokens=False).input_ids,
            tokenizer.unk_token_id,
        ),
    )
    rate = int(extractor.sampling_rate)

    def inputs(samples: Tensor) -> dict[str, Tensor]:
        return dict(extractor(samples.numpy(), sampling_rate=rate, return_tensors="pt"))

    settings = {**settings, "front_end": extractor.to_dict(), "vocabulary": names}
    ratio = getattr(config, "inputs_to_logits_ratio", None)
    frozen = _feature_encoder(module)
    return Recognizer(
        module,
        classes,
        WaveformFunction(rate, inputs),
        sha256=identity_of(module, settings),
        frame_seconds=None if ratio is None else ratio / rate,
        case=classes.case,
        presets=_presets(module, frozen),
        params="encoder" if frozen else None,
    )


def _refuse_other_files(path: Path, name: str, *, pickle: bool) -> None:
    """Say what a path holds if it is not a model that can be loaded."""
    if path.is_file():
        raise ModelError(f"{name}: is a file; give the folder that save_pretrained wrote")
    if not path.is_dir():
        if path.is_absolute() or str(path).startswith((".", "~")) or str(path).count("/") > 1:
            raise ModelError(f"{name}: no such folder; give one that save_pretrained wrote")
        return  # the name of a model on a hub
    adapters = (path / "adapter_config.json").is_file()
    weights = any(path.glob("*.safetensors"))
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    exported = sorted(file.name for file in path.rglob("*.onnx"))
    if not adapters and not (path / "config.json").is_file():
        what = "no config.json"
        if exported:
            what = f"an ONNX model ({exported[0]}), which has no gradients"
        raise ModelError(f"{name}: holds {what}; give a folder that save_pretrained wrote")
    if weights or (pickles and pickle):
        return
    if pickles:
        raise ModelError(
            f"{name}: its weights are a pickle ({pickles[0]}), which can run any code; save them "
            f"as safetensors, or trust them: hf+pickle:{path}"
        )
    if exported:
        raise ModelError(
            f"{name}: holds an ONNX model ({exported[0]}), which has no gradients; give the model "
            "that it was exported from"
        )
    raise ModelError(f"{name}: holds no weights (*.safetensors); save the model there")


def _refuse_other_models(transformers: Any, config: Any, name: str) -> None:
    kind = getattr(config, "model_type", "unknown")
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"{name}: is quantized, and quantized weights have no gradient; give the model that it "
            "was made from"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name}: is a sequence-to-sequence model ({kind}), which has no CTC head; give a CTC "
            "model, such as a wav2vec 2.0 that was fine-tuned with one"
        )
    custom = "AutoModelForCTC" in (getattr(config, "auto_map", None) or {})
    if type(config) not in transformers.MODEL_FOR_CTC_MAPPING and not custom:
        raise ModelError(
            f"{name}: is a model of type {kind}, for which transformers "
            f"{transformers.__version__} has no CTC model; give one that AutoModelForCTC can load"
        )


def _processor(read: Callable[..., Any], places: list[str], name: str) -> tuple[Any, Any]:
    """Feature extractor and tokenizer, saved together or one by one, from the first places."""
    found: dict[str, Any] = {}
    errors: dict[str, EglError] = {}
    for place in dict.fromkeys(places):
        try:
            both = read("AutoProcessor", place)
        except EglError:
            both = None  # such as one with a language model, which takes more packages
        for part, (kind, _) in _PARTS.items():
            try:
                found[part] = found.get(part) or getattr(both, part, None) or read(kind, place)
            except EglError as error:
                errors[part] = error
    for part, (_, purpose) in _PARTS.items():
        if part not in found:
            raise ModelError(
                f"{name}: has no {part.replace('_', ' ')}, which {purpose} (or it cannot be read: "
                f"{_cause(errors[part])}); {_PROCESSOR}"
            ) from errors[part]
    return found["feature_extractor"], found["tokenizer"]


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return one_line(cause)[:120]


def _unreadable(name: str, error: Exception, *, place: str, trusts: bool) -> ModelError:
    text = one_line(error)
    if "trust_remote_code" in text and not trusts:
        return ModelError(
            f"{name}: comes with its own code; to run it, read it first and give "
            "hf+trust_remote_code:DIR"
        )
    if not os.path.isdir(place):
        return ModelError(
            f"{name}: there is no folder {place}, and no hub gave a model of that name "
            f"({text[:300]})"
        )
    return ModelError(f"{name}: transformers cannot load it ({text[:300]})")


def _feature_encoder(module: nn.Module) -> list[str]:
    """Parameters that the usual recipe freezes: those that ``freeze_feature_encoder`` freezes."""
    freeze = getattr(module, "freeze_feature_encoder", None)
    if freeze is None:
        return []
    before = {name: p.requires_grad for name, p in module.named_parameters()}
    freeze()
    parameters = dict(module.named_parameters())
    found = [
        name for name, needed in before.items() if needed and not parameters[name].requires_grad
    ]
    for name in found:
        parameters[name].requires_grad_(True)
    return found


def _presets(module: nn.Module, feature_encoder: list[str]) -> dict[str, str]:
    names = {name for name, p in module.named_parameters() if p.requires_grad}
    presets = {
        "encoder": names.difference(feature_encoder),
        "head": {name for name in names if name.startswith(("lm_head.", "ctc_head."))},
        "adapters": {name for name in names if "adapter" in name or "lora_" in name},
    }
    return {preset: ",".join(_covering(module, some)) for preset, some in presets.items() if some}


def _covering(module: nn.Module, wanted: set[str], prefix: str = "") -> list[str]:
    """Shell patterns that match exactly the wanted parameters, as few as the modules allow."""
    patterns = []
    for name, parameter in module.named_parameters(recurse=False):
        if prefix + name in wanted and parameter.requires_grad:
            patterns.append(prefix + name)
    for name, child in module.named_children():
        within = {f"{prefix}{name}.{own}" for own, _ in child.named_parameters()}
        if within and within <= wanted:
            patterns.append(f"{prefix}{name}.*")
        elif within & wanted:
            patterns += _covering(child, wanted, f"{prefix}{name}.")
    return patterns


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Silence transformers' own reports and bars; what matters becomes an error of ours."""
    log, hub = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, bars, of_hub = log.get_verbosity(), log.is_progress_bar_enabled(), hub.level
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)  # or it reports each attempt to reach it
    try:
        yield
    finally:
        hub.setLevel(of_hub)
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
