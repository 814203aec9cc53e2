"""Private or version-dependent names of other packages, each imported in this file alone."""

import inspect
import warnings
from functools import partial

# scikit-learn documents neither of these, and every one of its estimators uses them: with them a
# parameter of a wrong type or range is refused in the words that its users know.
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        pass


__all__ = [
    "WHILE_FITTED",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "bare_step",
    "fit_context",
    "warn",
]

#: Attributes by which scikit-learn's callbacks are at an estimator while it is fitted.
WHILE_FITTED = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


def warn(message, category=UserWarning):
    """Warn of the line that called this package, past the wrappers that others have around it.

    As ``skip_file_prefixes`` does, which Python has from 3.12 on.
    """
    frame, level = inspect.currentframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


_PASSED = ("skae", "sklearn", "skorch", "contextlib")


def bare_step(optimizer):
    """Return an optimiser's step, without what torch wraps around it if nobody listens there.

    The wrapper tells hooks, and torch's profiler, in a twentieth of a step on a small network.
    """
    step = type(optimizer).step
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
    )
    # torch's schedules put another step in its place, to see that it is called
    if any(hooks) or "step" in vars(optimizer) or not hasattr(step, "hooked"):
        return optimizer.step
    return partial(step.__wrapped__, optimizer)
