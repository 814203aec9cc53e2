"""A density of the codes, from which new rows are made."""

import copy
import warnings

import numpy as np
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state

# Ten components do well on images (P. Ghosh et al., arXiv:1903.12436); fewer where there are not
# five rows for each direction of a component.
_MAX_COMPONENTS = 10
_ROWS_PER_DIRECTION = 5
# More would take longer than the rest of a fit, and add little to so few parameters.
_MAX_ROWS = 2000


def density_rows(n_rows, seed):
    """Return which of many rows a density is fitted to."""
    if n_rows <= _MAX_ROWS:
        return np.arange(n_rows)
    return np.random.RandomState(seed).choice(n_rows, _MAX_ROWS, replace=False)


def code_density(codes, seed):
    """Return a Gaussian mixture fitted to codes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
        In units in which their variances are of the order of 1.
    seed : int

    Returns
    -------
    GaussianMixture
    """
    n_rows, n_components = codes.shape
    n_clusters = n_rows // (_ROWS_PER_DIRECTION * (n_components + 1))
    n_clusters = min(max(n_clusters, 1), _MAX_COMPONENTS, len(np.unique(codes, axis=0)))
    # NumPy in, NumPy out, also while scikit-learn dispatches to other libraries, when this way to
    # start is not to be had.
    mixture = GaussianMixture(
        n_clusters,
        init_params="k-means++",
        tol=1e-2,
        # what is added to variances must not be lost in rounding where training went far
        reg_covar=max(1e-6, 1e-12 * float(codes.var(axis=0).max())),
        random_state=seed,
    )
    with (
        config_context(array_api_dispatch=False),
        np.errstate(under="ignore"),
        warnings.catch_warnings(),
    ):
        # a mixture that could still be a little better is no concern of those who wanted codes
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(codes)


def draw(mixture, n_samples, random_state):
    """Draw codes in random order.

    Parameters
    ----------
    mixture : GaussianMixture
    n_samples : int
    random_state : int, RandomState instance or None
        None is a new seed, not numpy's global generator.

    Returns
    -------
    ndarray of shape (n_samples, n_components)
    """
    if random_state is None:
        random_state = np.random.RandomState()
    random_state = check_random_state(random_state)
    codes, _ = copy.copy(mixture).set_params(random_state=random_state).sample(n_samples)
    return random_state.permutation(codes)
