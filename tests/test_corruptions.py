"""Corruptions."""

import numpy as np
import pandas as pd
import pytest
import torch

from skae import AutoencoderTransformer, corruptions
from skae.corruptions import gaussian, masking, swap

CORRUPTIONS = [getattr(corruptions, name) for name in corruptions.__all__]


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(400, 5) + torch.arange(5)  # columns that cannot be taken for each other


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_rows_keep_their_shape_and_are_not_changed_in_place(corruption, x):
    before = x.clone()
    corrupted = corruption(x, 0.5)
    assert corrupted.shape == x.shape
    assert torch.equal(x, before)
    assert not torch.equal(corrupted, x)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_strength_zero_leaves_rows_as_they_are(corruption, x):
    assert torch.equal(corruption(x, 0.0), x)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_draws_come_from_torchs_generator(corruption, x):
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws += [corruption(x, 0.5), corruption(x, 0.5)]
    np.testing.assert_array_equal(draws[0], draws[2])  # NaN where entries are hidden
    assert not np.array_equal(draws[0], draws[1], equal_nan=True)


def test_gaussian_noise_has_the_deviation_that_was_asked_for(x):
    noise = gaussian(x, 0.3) - x
    # of 2000 entries: standard errors .0067 of the mean, .0047 of the deviation
    assert abs(noise.mean().item()) < 0.03
    assert noise.std().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("corruption", [masking, swap])
@pytest.mark.parametrize("level", [0.2, 0.7])
def test_a_share_of_the_entries_is_replaced_and_the_others_are_not(corruption, x, level):
    changed = corruption(x, level) != x
    # of 2000 entries: standard error .01
    assert changed.float().mean().item() == pytest.approx(level, abs=0.04)
    assert changed.any(dim=0).all()
    # entries are drawn one by one, not rows or columns
    assert changed.float().mean(dim=1).std().item() == pytest.approx(
        np.sqrt(level * (1 - level) / 5), rel=0.2
    )


def test_masked_entries_are_hidden_as_if_they_were_missing(x):
    assert masking(x, 1.0).isnan().all()
    corrupted = masking(x, 0.5)
    assert bool((corrupted.isnan() | (corrupted == x)).all())


def test_swapped_entries_come_from_the_same_column_of_another_row(x):
    corrupted = swap(x, 1.0)
    assert not (corrupted == x).any()
    for column, old in zip(corrupted.T, x.T, strict=True):
        assert set(column.tolist()) <= set(old.tolist())
    sources = torch.stack([(x == row).int().argmax(dim=0) for row in corrupted])
    assert bool((sources.float().std(dim=1) > 0).any())  # one row takes from several


def test_a_batch_of_one_row_has_no_other_to_take_from():
    x = torch.randn(1, 3)
    assert torch.equal(swap(x, 1.0), x)


def test_a_swap_with_a_gap_hides_the_entry():
    x = torch.tensor([[torch.nan], [1.0]])
    assert corruptions.swap(x, 1.0).isnan().flatten().tolist() == [False, True]


@pytest.mark.parametrize("corruption", corruptions.__all__)
def test_frames_with_gaps_in_categories_are_corrupted(corruption):
    frame = pd.DataFrame(
        {"a": np.arange(60.0), "b": np.array(["x", "y", None], dtype=object).repeat(20)}
    )
    frame["c"] = frame["a"] % 7
    frame.loc[::5, "a"] = np.nan
    model = AutoencoderTransformer(2, corruption=corruption, corruption_level=0.5, max_iter=2)
    assert np.isfinite(model.set_params(validation_fraction=0.1).fit(frame).loss_curve_).all()
