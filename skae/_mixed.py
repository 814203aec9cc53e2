"""Rows of numbers and categories, as networks see them and as losses judge them.

A row is a float tensor of shape ``(n_features,)``. Its numbers are in units, its categories are
codes 1, 2, …, and what is missing is NaN. Networks see *inputs* instead: numbers, and a vector in
the place of each category. With share p_c of its column, category c of few is
``(e_c - p) / sqrt(p)``, its one-hot vector as factor analysis of mixed data scales it; one of many
is a learned vector of few entries. Missing entries are NaN in inputs too; they are filled later.

A decoder's answer v for a category is read by the same vectors: ``P(c) ∝ p_c exp(<vector of c,
v>)``. At v = 0 those are the shares, and to first order they are what factor analysis reconstructs.
"""

import itertools

import torch
from torch import nn

from skae._torch import may_have_gaps
from skae.losses import Loss

# Columns of more categories have learned vectors, of as many entries as the second says.
MAX_ONE_HOT = 50
N_EMBEDDED = 16


class Layout:
    """Where columns of numbers and categories are in inputs and in outputs.

    Both begin with the numbers. Behind them are the columns that are one-hot, and then those that
    are embedded, each in their order.

    Parameters
    ----------
    n_categories : sequence of int
        Of each feature; 0 if it is a number.
    """

    def __init__(self, n_categories):
        columns = list(enumerate(n_categories))
        self.numbers = [j for j, n in columns if n == 0]
        self.one_hot = [j for j, n in columns if 0 < n <= MAX_ONE_HOT]
        self.embedded = [j for j, n in columns if n > MAX_ONE_HOT]
        self.n_categories = list(n_categories)
        self.n_numbers = len(self.numbers)
        self.n_one_hot = sum(n_categories[j] for j in self.one_hot)
        widths = [n_categories[j] if j in self.one_hot else N_EMBEDDED for j in self.categorical]
        self.n_inputs = self.n_numbers + sum(widths)
        self.n_outputs = self.n_numbers + sum(n_categories)
        sizes = [n_categories[j] for j in self.categorical]
        self.starts = list(itertools.accumulate(sizes, initial=self.n_numbers))[:-1]

    @property
    def categorical(self):
        return self.one_hot + self.embedded

    def blocks(self):
        """Return, for each one-hot column, which of the one-hot inputs are its own."""
        firsts = [start - self.n_numbers for start in self.starts[: len(self.one_hot)]]
        sizes = [self.n_categories[j] for j in self.one_hot]
        return [range(first, first + n) for first, n in zip(firsts, sizes, strict=True)]


def _index(values):
    return torch.tensor(list(values), dtype=torch.long)


def _joined(shares):
    """Return the shares of some columns, which may be none, as one float32 tensor."""
    return torch.cat([*shares, torch.empty(0)]).float()  # whatever torch's default is


class MixedInput(nn.Module):
    """Make inputs of rows.

    Parameters
    ----------
    layout : Layout
    shares : list of Tensor of shape (n_categories,)
        Of the categories of each categorical column, in the layout's order.
    embeddings : list of Tensor of shape (n_categories, N_EMBEDDED)
        Vectors of the embedded columns to begin with.

    **Shape**

    - input: ``(batch, n_features)``
    - output: ``(batch, layout.n_inputs)``

    Examples
    --------
    >>> import torch
    >>> from skae._mixed import Layout, MixedInput
    >>> inputs = MixedInput(Layout([0, 2]), [torch.tensor([0.2, 0.8])], [])
    >>> inputs(torch.tensor([[1.5, 1.0], [torch.nan, torch.nan]])).round(decimals=2)
    tensor([[ 1.5000,  1.7900, -0.8900],
            [    nan,     nan,     nan]])
    """

    def __init__(self, layout, shares, embeddings):
        super().__init__()
        one_hot = shares[: len(layout.one_hot)]
        self.n_plain = layout.n_numbers + layout.n_one_hot
        self.register_buffer("roots", _joined(one_hot).sqrt())
        for name, values in (
            ("numbers", layout.numbers),
            ("one_hot", layout.one_hot),
            ("blocks", [i for i, block in enumerate(layout.blocks()) for _ in block]),
            ("starts", [block.start for block in layout.blocks()]),
        ):
            self.register_buffer(name, _index(values), persistent=False)
        self.embedded = layout.embedded
        self.vectors = nn.ModuleList(
            nn.Embedding.from_pretrained(
                nn.functional.pad(vectors, (0, 0, 1, 0)), freeze=False, padding_idx=0
            )
            for vectors in embeddings
        )

    def forward(self, x):
        parts = [self.plain(x)]
        for j, vectors in zip(self.embedded, self.vectors, strict=True):
            codes = x[:, j]
            missing = codes.isnan().unsqueeze(1)
            parts.append(vectors(codes.nan_to_num().long()).masked_fill(missing, torch.nan))
        return torch.cat(parts, dim=1)

    def plain(self, x):
        """Return the inputs that are numbers or one-hot."""
        codes = x.index_select(1, self.one_hot)
        return torch.cat([x.index_select(1, self.numbers), self._one_hot(codes)], dim=1)

    def _one_hot(self, codes):
        places = self.starts + codes.nan_to_num(nan=1.0).long() - 1
        ones = codes.new_zeros(len(codes), len(self.roots)).scatter_(1, places, 1.0)
        missing = codes.isnan().index_select(1, self.blocks)
        return (ones / self.roots - self.roots).masked_fill(missing, torch.nan)


class MixedOutput(nn.Module):
    """Make numbers and logarithms of probabilities of what a decoder gives.

    Parameters
    ----------
    layout : Layout
    shares : list of Tensor
        As for :class:`MixedInput`.
    inputs : MixedInput
        The one whose vectors are used.

    **Shape**

    - input: ``(batch, layout.n_inputs)``
    - output: ``(batch, n_numbers + n_categories)``, the categories of each column behind each other

    Examples
    --------
    >>> import torch
    >>> from skae._mixed import Layout, MixedInput, MixedOutput
    >>> layout, shares = Layout([0, 2]), [torch.tensor([0.2, 0.8])]
    >>> outputs = MixedOutput(layout, shares, MixedInput(layout, shares, []))
    >>> outputs(torch.tensor([[1.5, 0.0, 0.0]]))[:, 1:].exp()
    tensor([[0.2000, 0.8000]])
    """

    def __init__(self, layout, shares, inputs):
        super().__init__()
        self.inputs = inputs
        self.n_numbers, self.n_one_hot = layout.n_numbers, layout.n_one_hot
        n_one_hot = len(layout.one_hot)
        self.register_buffer("log_shares", _joined(shares[:n_one_hot]).log())
        self.log_shares_embedded = nn.ParameterList(
            nn.Parameter(some.log(), requires_grad=False) for some in shares[n_one_hot:]
        )
        # Blocks of all sizes as one array, whose rows end in a category that is not there.
        blocks = layout.blocks()
        longest = max(map(len, blocks), default=0)
        padded = [i for b in blocks for i in [*b, *[self.n_one_hot] * (longest - len(b))]]
        self.register_buffer("padded", _index(padded).view(len(blocks), longest), persistent=False)

    def forward(self, v):
        widths = [self.n_numbers, self.n_one_hot, *[N_EMBEDDED] * len(self.inputs.vectors)]
        numbers, one_hot, *embedded = v.split(widths, dim=1)
        parts = [numbers, self._of_one_hot(one_hot)]
        for own, vectors, log_shares in zip(
            embedded, self.inputs.vectors, self.log_shares_embedded, strict=True
        ):
            parts.append((log_shares + own @ vectors.weight[1:].T).log_softmax(dim=1))
        return torch.cat(parts, dim=1)

    def _of_one_hot(self, v):
        if not self.n_one_hot:
            return v
        # <(e_c - p) / sqrt(p), v> less what is the same for all c
        scores = self.log_shares + v / self.inputs.roots
        ended = nn.functional.pad(scores, (0, 1), value=-torch.inf)
        totals = ended[:, self.padded].logsumexp(dim=2)  # (batch, n_columns)
        return scores - totals.index_select(1, self.inputs.blocks)


class MixedLoss(Loss):
    """Loss of the entries that are there, each column's as a share of the loss of its baseline.

    The baseline of a number is the mean, and that of a category the shares, whose cross-entropy
    is their entropy. The mean of this loss over the training rows is therefore the mean over
    columns of what is left of each column's variance or entropy. Numbers alone have one unit, and
    the mean is the share that is left of all variance.

    Parameters
    ----------
    loss : Loss
        With a method ``entries``, for numbers.
    layout : Layout
    shares : list of Tensor
        As for :class:`MixedInput`.

    Attributes
    ----------
    baselines : ndarray of shape (n_features,)
        Mean loss of the baseline over the entries of each column that are not missing.
    units : ndarray of shape (n_features,)
        By which losses of columns can be compared: one over the baseline, and 1 for numbers alone.
        0 where it is 0.

    **Shape**

    - ``x_hat``: ``(batch, n_numbers + n_categories)``, what :class:`MixedOutput` gives
    - ``x``: ``(batch, n_features)``
    - output: ``(batch,)``
    """

    def __init__(self, loss, layout, shares):
        super().__init__(None)
        self.loss = loss
        self.n_numbers = layout.n_numbers
        mean_row = torch.cat([torch.zeros(layout.n_numbers), _joined(shares).log()])
        self.register_buffer("mean_row", mean_row.float())
        self.register_buffer("weights", torch.ones(len(layout.n_categories)).float())
        columns = layout.numbers + layout.categorical
        for name, values in (
            ("numbers", layout.numbers),
            ("categorical", layout.categorical),
            ("starts", layout.starts),
            ("order", sorted(range(len(columns)), key=columns.__getitem__)),
        ):
            self.register_buffer(name, _index(values), persistent=False)

    @property
    def from_logits(self):
        return self.loss.from_logits

    @torch.no_grad()
    def weigh(self, chunks):
        """Learn baselines, and what each column counts, and return self.

        Parameters
        ----------
        chunks : iterable of Tensor of shape (n_rows, n_features)
            All training rows.
        """
        n_rows, totals, observed = 0, 0.0, 0.0
        for x in chunks:
            n_rows += len(x)
            losses = self.entries(self.mean_output(x), x)
            totals += losses.cpu().sum(dim=0, dtype=torch.float64)
            observed += x.isfinite().cpu().sum(dim=0)
        baselines = totals / observed.clamp_min(1)
        if len(self.categorical):
            units = torch.where(baselines > 0, 1 / baselines, 0.0)
            weights = units * n_rows / observed.clamp_min(1) / (units > 0).sum().clamp_min(1)
        else:
            units = torch.ones_like(baselines)
            weights = units * n_rows / observed.sum().clamp_min(1)
        self.baselines, self.units = baselines.numpy(), units.numpy()
        self.weights.copy_(weights)
        return self

    def entries(self, x_hat, x):
        """Return the loss of each entry, zero where it is missing.

        Returns
        -------
        Tensor of shape (batch, n_features)
        """
        is_mixed = len(self.categorical) > 0
        if not is_mixed and not may_have_gaps(x):
            return self.loss.entries(x_hat, x)
        missing, x = x.isnan(), x.nan_to_num()
        if not is_mixed:
            return self.loss.entries(x_hat, x).masked_fill(missing, 0.0)
        losses = self.loss.entries(x_hat[:, : self.n_numbers], x.index_select(1, self.numbers))
        codes = x.index_select(1, self.categorical).long()
        places = self.starts + (codes - 1).clamp_min(0)
        losses = torch.cat([losses, -x_hat.gather(1, places)], dim=1)
        return losses.index_select(1, self.order).masked_fill(missing, 0.0)

    def forward(self, x_hat, x):
        return self.entries(x_hat, x) @ self.weights

    def mean_output(self, x):
        if not len(self.categorical):
            return self.loss.mean_output(x)
        return self.mean_row.expand(len(x), -1)


class ObservedLoss(Loss):
    """A loss of whole rows, of which missing entries are taken to be met.

    Parameters
    ----------
    loss : Loss
    share : float
        Share of the entries that are there, by which the loss is divided.

    **Shape**

    - ``x_hat``, ``x``: ``(batch, n_features)``
    - output: ``(batch,)``
    """

    def __init__(self, loss, share):
        super().__init__(None)
        self.loss = loss
        self.share = share

    def forward(self, x_hat, x):
        return self.loss(x_hat, torch.where(x.isnan(), x_hat.detach(), x)) / self.share

    def mean_output(self, x):
        return self.loss.mean_output(x)


def in_rows(outputs, layout):
    """Return rows of outputs: numbers as they are, and codes of the likeliest categories.

    Parameters
    ----------
    outputs : Tensor of shape (batch, n_numbers + n_categories)
    layout : Layout

    Returns
    -------
    Tensor of shape (batch, n_features)
    """
    rows = outputs.new_empty(len(outputs), len(layout.n_categories))
    rows[:, layout.numbers] = outputs[:, : layout.n_numbers]
    for j, start in zip(layout.categorical, layout.starts, strict=True):
        n_categories = layout.n_categories[j]
        rows[:, j] = 1.0 + outputs[:, start : start + n_categories].argmax(dim=1)
    return rows


class OnNumbers:
    """A corruption that leaves categories as they are.

    Parameters
    ----------
    corruption : callable
    layout : Layout
    """

    def __init__(self, corruption, layout):
        self.corruption = corruption
        self.categorical = _index(layout.categorical)

    def __call__(self, x, level):
        # kept there: each copy to another device would be waited for
        self.categorical = columns = self.categorical.to(x.device)
        return self.corruption(x, level).index_copy(1, columns, x.index_select(1, columns))
