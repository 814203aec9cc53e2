"""Private or version-dependent names of other packages, each imported in this file alone."""

# scikit-learn documents neither of these, and every one of its estimators uses them: with them a
# parameter of a wrong type or range is refused in the words that its users know.
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, StrOptions

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        pass


__all__ = ["CallbackSupportMixin", "Interval", "StrOptions", "fit_context"]
