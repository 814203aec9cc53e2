"""What the gallery needs beside its settings, which have to be names."""

import warnings
from pathlib import Path

import torch

_ORDER = [
    "textbook",
    "displays",
    "starts",
    "lambda_paths",
    "compression",
    "denoising",
    "features",
    "dataframe",
    "generate_digits",
    "generate_sound",
]
_UNDONE = []


def order(path):
    """Return the place of an example."""
    return _ORDER.index(Path(path).stem.removeprefix("plot_"))


def alone(gallery_conf, path, when):
    """Make warnings of an example errors, and put back the number of threads that it sets."""
    while _UNDONE:
        _UNDONE.pop()()
    if path is not None and when == "before":
        caught, n_threads = warnings.catch_warnings(), torch.get_num_threads()
        caught.__enter__()
        warnings.simplefilter("error")
        _UNDONE.extend([lambda: caught.__exit__(), lambda: torch.set_num_threads(n_threads)])
