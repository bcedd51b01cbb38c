"""How an unknown model is run: by one thread, in evaluation mode, eagerly, without a trace."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from egl_fast.compute.process_wide import SharedChange
from egl_fast.gradients.model_call import ModelInputs


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside wrappers that change how it runs, not what it computes.

    Compiled code has no graph to look into, and wrappers that distribute a batch over devices
    expect every backward pass to belong to training.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner  # of torch.compile
        else:
            return model


@contextmanager
def running(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode while the context is open.

    Afterwards, also after an exception, the training mode of each module and the random state are
    restored. Other threads wait if they want to run this model, or one that shares a module.
    """
    with ExitStack() as stack:
        stack.enter_context(alone(model))
        stack.enter_context(_random_state_of_libraries(True))
        for device in _devices(model):
            stack.enter_context(_random_state(device)(True))
        if "torch._dynamo" in sys.modules:  # without it, nothing has been compiled
            stack.enter_context(_compiler_stance("force_eager"))
        stack.enter_context(_evaluation_mode(model))
        yield


def constants(inputs: ModelInputs) -> ModelInputs:
    """A model's inputs as leaves of the graph, however nested they are.

    Tensors that require a gradient still do, since some models' checkpointed layers need that, but
    the caller's tensors get none. Call it outside inference mode: tensors created inside cannot be
    saved for a backward pass.
    """

    def constant(x: Tensor) -> Tensor:
        return (x.clone() if x.is_inference() else x.detach()).requires_grad_(x.requires_grad)

    own: ModelInputs = tree_map_only(Tensor, constant, inputs)
    return own


#: Module's id -> the thread that runs it.
_THREAD_OF: dict[int, int] = {}
_RELEASED = threading.Condition()


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Keep other threads from a model, and from every model that shares a module with it.

    While a model runs here, its modules have hooks, lack parameters, and are in evaluation mode.
    Another thread would take that for the model's own state. Locking modules, not scorers, also
    covers models that share some. Others run in parallel.
    """
    me = threading.get_ident()
    modules = {id(module) for module in model.modules()}
    with _RELEASED:
        # All at once or none, so that two threads never wait for each other.
        _RELEASED.wait_for(lambda: all(_THREAD_OF.get(m, me) == me for m in modules))
        taken = modules - _THREAD_OF.keys()
        _THREAD_OF.update(dict.fromkeys(taken, me))
    try:
        yield
    finally:
        with _RELEASED:
            for module in taken:
                del _THREAD_OF[module]
            _RELEASED.notify_all()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        if any(training for _, training in modes):
            with suppress(NotImplementedError):  # exported programs have no modes
                model.eval()
        for module, _ in modes:
            module.training = False  # even if the model's own train() does something else
        yield
    finally:
        try:
            # By their own train(), which may do more: some models merge low-rank updates into a
            # weight for evaluation, and separate them again for training.
            for module, training in modes:
                if module.training != training:
                    with suppress(NotImplementedError):
                        module.train(training)
        finally:
            for module, training in modes:
                module.training = training


def _devices(model: nn.Module) -> list[torch.device]:
    """Devices whose random state the model may use."""
    gpus = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    return [torch.device("cpu"), *(torch.device("cuda", index) for index in sorted(gpus))]


@cache
def _random_state(device: torch.device) -> SharedChange[bool]:
    # Generators belong to the process. If two threads run models that draw even in evaluation mode,
    # both use the same stream, and the state before both is restored.
    def keep(_: bool) -> Callable[[], None]:
        if device.type == "cpu":
            state = torch.get_rng_state()
            return lambda: torch.set_rng_state(state)
        of_gpu = torch.cuda.get_rng_state(device)
        return lambda: torch.cuda.set_rng_state(of_gpu, device)

    return SharedChange(keep)


def _keep_random_state_of_libraries(_: bool) -> Callable[[], None]:
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002 (it is what models use)

    def restore() -> None:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002

    return restore


#: Python's and NumPy's, which some Hugging Face models use even in evaluation mode.
_random_state_of_libraries = SharedChange(_keep_random_state_of_libraries)


def _set_compiler_stance(stance: str) -> Callable[[], None]:
    change = torch.compiler.set_stance(stance)
    return lambda: change.__exit__(None, None, None)


#: "force_eager": compiled functions run uncompiled. Compiled backward passes can be called only
#: once, and not under vmap; and hooks on modules would trigger recompilation.
_compiler_stance = SharedChange(_set_compiler_stance)
