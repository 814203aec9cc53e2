"""Corruptions: what training does to rows before it asks for the clean ones back.

A corruption maps ``(x, level)``, rows of shape ``(batch, n_features)`` in units of the data's mean
feature standard deviation, with features centred, and a strength, to other rows of that shape. It
leaves x as it is and draws from torch's global generator, which a fit seeds. Missing entries stay
missing: a corruption of one's own gets zeros in their place, these get NaN.

P. Vincent et al., "Stacked Denoising Autoencoders", JMLR 11 (2010), is the source of the first two.
"""

import torch

__all__ = ["gaussian", "masking", "swap"]


def gaussian(x, level):
    """Add normal noise.

    Parameters
    ----------
    x : Tensor of shape (batch, n_features)
    level : float
        Standard deviation of the noise, in units of the data's mean feature standard deviation.

    Returns
    -------
    Tensor of shape (batch, n_features)
    """
    return x + level * torch.randn_like(x)


def masking(x, level):
    """Hide entries: the encoder sees what it sees where entries are missing.

    Parameters
    ----------
    x : Tensor of shape (batch, n_features)
    level : float
        Share of the entries.

    Returns
    -------
    Tensor of shape (batch, n_features)
    """
    return x.masked_fill(torch.rand_like(x) < level, torch.nan)


def swap(x, level):
    """Replace entries by what another row of the batch has in their column.

    Columns keep their distribution, which suits tables whose columns are far from normal. What the
    other row lacks is missing then.

    Parameters
    ----------
    x : Tensor of shape (batch, n_features)
    level : float
        Share of the entries. A batch of one row stays as it is.

    Returns
    -------
    Tensor of shape (batch, n_features)
    """
    n_rows = len(x)
    if n_rows == 1:
        return x
    rows = torch.arange(n_rows, device=x.device).unsqueeze(1)
    others = (rows + torch.randint(1, n_rows, x.shape, device=x.device)) % n_rows
    return torch.where(torch.rand_like(x) < level, x.gather(0, others), x)
