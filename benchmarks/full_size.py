"""What scoring takes on models of full size, in inference passes, against the plain loop.

    python benchmarks/full_size.py wav2vec2
    python benchmarks/full_size.py quartznet --model-dir ../shared/models/quartznet15x5_en
    python benchmarks/full_size.py hubert-large --layers 4 --seconds 10

Each writes its entry into benchmarks/results/full-size.json, from which ``make performance-page``
makes a table. wav2vec2 and hubert-large have random weights, with an output layer scaled up to
emissions as peaked as a trained model's. The loop's backward passes are timed on a few labelings,
and scaled. Everything runs once per round, and results are compared with autograd before.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_size_page import RESULTS
from machine import ROOT, machine
from torch import Tensor
from workloads import sharpen

from egl_fast import Scorer
from egl_fast.benchmarking.comparison import EXACT, INFERENCE, LOOP, METHODS, Comparison
from egl_fast.benchmarking.recordings import Recording
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.cli.options import Size
from egl_fast.compute.memory import keep_freed_memory
from egl_fast.data.audio import Waveform, load_audio
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.recognizers.front_end import WaveformFunction
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.tracking.memory import peak_memory_bytes

RATE_HZ = 16000
K = 100
TIMED = (EXACT, "lowrank --tolerance 0.1", "probe --probes 4")

#: Labelings that the plain loop goes through.
LOOPED = 3

#: What the usual recipe trains: all but the convolutional feature encoder.
ENCODER = "*.feature_projection.*,*.encoder.*,lm_head.*"

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def transformer(kind: str, layers: int | None) -> Recognizer:
    """wav2vec 2.0 base or HuBERT large in shape, with random weights."""
    import transformers

    torch.manual_seed(0)
    depth = {} if layers is None else {"num_hidden_layers": layers}
    if kind == "wav2vec2":
        config = transformers.Wav2Vec2Config(layerdrop=0.0, **depth)
        module = transformers.Wav2Vec2ForCTC(config)
    else:
        config = transformers.HubertConfig(
            hidden_size=1024,
            num_attention_heads=16,
            intermediate_size=4096,
            feat_extract_norm="layer",
            conv_bias=True,
            do_stable_layer_norm=True,
            layerdrop=0.0,
            **({"num_hidden_layers": 24} | depth),
        )
        module = transformers.HubertForCTC(config)
    sharpen(module.eval())

    def normalized(samples: Tensor) -> Tensor:
        return ((samples - samples.mean()) / samples.std())[None]

    return Recognizer.of(module, ["<pad>", *map(chr, range(97, 97 + 31))], normalized)


def quartznet(folder: Path) -> Recognizer:
    """The pretrained recognizer in a folder that is no part of this project."""
    spec = importlib.util.spec_from_file_location("quartznet", folder / "quartznet.py")
    assert spec is not None
    assert spec.loader is not None
    own: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    [weights] = folder.glob("*.pt")

    def inputs(samples: Tensor) -> tuple[Tensor, Tensor]:
        return samples[None], torch.tensor([len(samples)])

    vocabulary = [*own.VOCAB, "<blank>"]
    return Recognizer.of(own.load(weights), vocabulary, inputs, blank=len(own.VOCAB))


def joined_speech(pool: Path, seconds: float, front_end: WaveformFunction) -> Recording:
    """So many seconds of the pool's LibriSpeech recordings, one after the other."""
    parts: list[Waveform] = []
    for utterance in of_corpus(pool, "librispeech"):
        parts.append(load_audio(utterance, sample_rate_hz=RATE_HZ))
        if sum(map(len, parts)) >= seconds * RATE_HZ:
            break
    samples = np.concatenate(parts)[: round(seconds * RATE_HZ)]
    name = f"{len(samples) / RATE_HZ:g} s of speech"
    return Recording.of(name, lambda: front_end.prepare(samples, name=name))


def of_corpus(pool: Path, corpus: str) -> list[Utterance]:
    """The recordings of a corpus."""
    return [one for one in read_manifest(pool) if one.record.get("corpus") == corpus]


def recordings_of(options: argparse.Namespace, recognizer: Recognizer) -> list[Recording]:
    """Real speech: joined to the exact length for random weights, else the nearest in length."""
    front_end = recognizer.required_front_end()
    if options.model != "quartznet":
        assert isinstance(front_end, WaveformFunction)
        return [joined_speech(options.pool, options.seconds, front_end)]
    spoken = of_corpus(options.pool, "speechocean762")
    spoken.sort(key=lambda one: abs((one.duration_seconds or 0.0) - options.seconds))
    chosen = spoken[: options.recordings]
    return [Recording.of(one.id, lambda one=one: recognizer.load(one)) for one in chosen]  # type: ignore[misc]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """An entry of the results file."""
    if options.model == "quartznet":
        recognizer, params = quartznet(options.model_dir), "*"
    else:
        recognizer, params = transformer(options.model, options.layers), ENCODER
    before = peak_memory_bytes()
    scorer = Scorer(recognizer, params=params, memory_bytes=options.memory)
    engine = StopwatchEngine(scorer.model, params=params, memory_bytes=options.memory)
    memory_bytes = engine.memory.total_bytes
    recordings = []
    for recording in recordings_of(options, recognizer):
        comparison = Comparison(scorer, engine, [recording], k=K, looped=LOOPED)
        comparison.warm_up()
        peak = peak_memory_bytes() if not recordings else recordings[0]["peak_bytes"]
        error = comparison.check()
        rounds = [one_round(comparison, memory_bytes, options) for _ in range(options.rounds)]
        recordings.append(
            {
                "id": recording.id,
                "seconds": recording.seconds,
                "largest_error": error,
                "peak_bytes": peak,
                "rows": rounds[0]["rows"],
                "timings": {
                    name: statistics.median(one["seconds"][name] for one in rounds)
                    for name in rounds[0]["seconds"]
                },
                "times_loop": {
                    name: statistics.median(
                        one["seconds"][LOOP] / one["seconds"][name] for one in rounds
                    )
                    for name in rounds[0]["seconds"]
                },
            }
        )
        print(json.dumps(recordings[-1], indent=2), flush=True)
    layers = "" if options.layers is None else f", {options.layers} layers"
    return {
        "model": options.model + layers,
        "seconds": options.seconds,
        "clock": options.clock,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "looped": LOOPED,
        "parameters": sum(p.numel() for p in engine.parameters.values()),
        "memory_bytes": memory_bytes,
        "peak_bytes_before": before,
        "recordings": recordings,
        "machine": machine(),
    }


def one_round(
    comparison: Comparison, memory_bytes: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds and rows of everything, by name; methods with half of the memory as well."""
    engine, works = comparison.engine, comparison.works()
    seconds: dict[str, float] = {}
    rows: dict[str, int] = {}
    clock = CLOCKS[options.clock]

    def run(name: str, work: Callable[[], object]) -> None:
        engine.restart()
        started = clock()
        work()
        seconds[name] = clock() - started
        if engine.rows:
            rows[name] = engine.rows

    for share in (1, 2):
        engine.memory.use(memory_bytes // share)
        for name in TIMED:
            work = comparison.score_exactly if name == EXACT else works[name]
            run(name if share == 1 else f"{name}, half of the memory", work)
    engine.memory.use(memory_bytes)
    run(INFERENCE, works[INFERENCE])
    for name in (LOOP, "forward pass of the loop"):
        run(name, works[name])
    seconds[LOOP] = comparison.loop_over_all(seconds[LOOP], seconds.pop("forward pass of the loop"))
    assert comparison.largest_error() < 1e-3, "of the loop in float32"
    return {"seconds": seconds, "rows": rows}


def keep(entry: Mapping[str, Any], path: Path) -> None:
    """Put an entry into the results file, in place of an earlier one of the same."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    same = ("model", "seconds")
    others = [one for one in known if any(one[key] != entry[key] for key in same)]
    path.write_text(json.dumps([*others, entry], indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["wav2vec2", "hubert-large", "quartznet"])
    parser.add_argument("--model-dir", type=Path, help="of quartznet")
    parser.add_argument("--pool", type=Path, default=ROOT / "examples" / "pool.jsonl")
    parser.add_argument("--seconds", type=float, help="of speech [default: 5; quartznet 3.3]")
    parser.add_argument("--recordings", type=int, default=3, help="of quartznet")
    parser.add_argument("--layers", type=int, help="of a transformer, if not all")
    parser.add_argument("--memory", help="as of `egl-fast score`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu on a machine that is busy"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.model == "quartznet" and options.model_dir is None:
        parser.error("quartznet needs --model-dir")
    if options.seconds is None:
        options.seconds = 3.3 if options.model == "quartznet" else 5.0
    if options.memory is not None:
        options.memory = Size().convert(options.memory, None, None)
    assert set(TIMED) <= METHODS.keys()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    keep(measured(options), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
