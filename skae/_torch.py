"""What the package knows of devices, precision and torch's random state."""

import contextlib
import copy
import os
import threading

import torch

from skae._compat import warn

# Held while torch's generators are seeded: they are the process's, and fits in threads would draw
# from each other's.
_GENERATORS = threading.RLock()


def _unlock():
    global _GENERATORS
    _GENERATORS = threading.RLock()


if hasattr(os, "register_at_fork"):  # the thread that holds it is not there in a child
    os.register_at_fork(after_in_child=_unlock)


def resolve_device(device):
    """Return the device that a ``device`` parameter names, after trying it.

    Parameters
    ----------
    device : str or torch.device
        ``'auto'`` is the first CUDA device where there is one, and the CPU elsewhere.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch cannot compute on that device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).cpu()
    except Exception as error:  # torch has another exception for each kind of device
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"device must be one that torch can use on this machine, got {device!r} ({reason});"
            " use device='auto' or device='cpu'."
        ) from error
    return resolved


def device_or_cpu(name):
    """Return the device of a model from elsewhere, or with a warning the CPU where it is not here.

    Parameters
    ----------
    name : str or torch.device

    Returns
    -------
    torch.device
    """
    try:
        return resolve_device(torch.device(name))
    except ValueError:
        warn(
            f"The model was on device {str(name)!r}, which torch cannot use on this machine: it is"
            " on the CPU now."
        )
        return torch.device("cpu")


def inference_dtype(dtype, device):
    """Return the torch dtype in which an array of a numpy float ``dtype`` is mapped.

    float64 input is mapped in float64, so that a row's code does not depend on which rows are
    mapped with it beyond float64's rounding. Apple's GPUs have no float64.
    """
    if dtype.itemsize == 8 and device.type != "mps":
        return torch.float64
    return torch.float32


def converted(module, device=None, dtype=None):
    """Return a module that shares with the given one all but its tensors, and those that stay.

    A copy would take several times as long as to map a row. It is for modules whose tensors are
    parameters and buffers, and that know each other as parts alone.

    Parameters
    ----------
    module : nn.Module
    device : torch.device, default=None
    dtype : torch.dtype, default=None
        That of floats.
    """

    def to(tensor):
        return tensor.detach().to(device, dtype if tensor.is_floating_point() else None)

    def each(function, named):
        return {name: None if one is None else function(one) for name, one in named.items()}

    other = object.__new__(type(module))
    vars(other).update(
        vars(module),
        _modules=each(lambda part: converted(part, device, dtype), module._modules),
        _parameters=each(to, module._parameters),
        _buffers=each(to, module._buffers),
    )
    return other


def copied_state(module):
    """Return a copy of what a module stores, by name.

    Of tensors a deep copy would be of their storage too, in five times the time.
    """
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in module.state_dict().items()
    }


def products(matrices):
    """Return torch's ``mm`` and ``addmm`` for tensors like this: matrices, or stacks of them."""
    return (torch.mm, torch.addmm) if matrices.ndim == 2 else (torch.bmm, torch.baddbmm)


def may_have_gaps(x):
    """Return whether entries of a tensor in units may be NaN.

    Their sum, which does not overflow in units, tells in one pass. To ask another device than the
    CPU would be to wait for it.
    """
    return x.device.type != "cpu" or bool(x.sum().isnan())


def may_be_larger(one, other):
    """Return whether the value of one tensor may be larger than that of another.

    To ask another device than the CPU would be to wait for it.
    """
    return one.device.type != "cpu" or one.item() > other.item()


@contextlib.contextmanager
def usual(device):
    """Compute inside a ``with`` block as if torch had no default device, and no autocast for one.

    Both are for what users write themselves. A default device is only covered where there is one,
    as each of torch's functions takes longer then.
    """
    with contextlib.ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


@contextlib.contextmanager
def seeded(seed, device):
    """Seed torch's generators inside a ``with`` block and put them back as they were after it.

    Dropout and the constructors of modules draw from torch's global generators and take no
    generator of their own, so determinism needs the global ones; they belong to the caller. One
    thread at a time is inside.
    """
    cuda = [device] if device.type == "cuda" else []
    with _GENERATORS, torch.random.fork_rng(devices=cuda):
        # not torch.manual_seed: that seeds the generators of every device, and only these two
        # kinds are put back
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield
