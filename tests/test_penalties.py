"""Penalties."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.distributions import Normal, kl_divergence

from skae.modules import MLP, SoftThreshold
from skae.penalties import KL, L1, L2, ActivityL1, Contractive, Penalty

ALPHA = 0.3


class Cubes(Penalty):
    def __call__(self, weights):
        return sum(weight.abs().pow(3).sum() for weight in weights)


@pytest.fixture
def weights():
    """Two matrices and a gate, each with the gradient of some loss."""
    rng = np.random.RandomState(0)
    weights = [nn.Parameter(torch.tensor(rng.normal(size=shape))) for shape in [(3, 2), (2, 4), ()]]
    for weight in weights:
        weight.grad = torch.tensor(rng.normal(size=weight.shape))
    return weights


def gradients(weights):
    return [weight.grad.clone() for weight in weights]


def test_l2_is_the_sum_of_squares_of_all_weights(weights):
    expected = sum((weight.detach().numpy() ** 2).sum() for weight in weights)
    value = L2()(weights)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-14)  # float64


def test_l1_is_the_sum_of_absolute_values_of_all_weights(weights):
    expected = sum(np.abs(weight.detach().numpy()).sum() for weight in weights)
    assert L1()(weights).item() == pytest.approx(expected, rel=1e-14)  # float64


@pytest.mark.parametrize("penalty", [L2(), L1(), Cubes()], ids=["L2", "L1", "base"])
def test_backward_adds_the_gradient_of_alpha_times_the_penalty(weights, penalty):
    before = gradients(weights)
    added = torch.autograd.grad(ALPHA * penalty(weights), weights)
    values = [weight.detach().clone() for weight in weights]
    penalty.backward(weights, ALPHA)
    for weight, value, old, new in zip(weights, values, before, added, strict=True):
        assert new.any()
        torch.testing.assert_close(weight.grad, old + new)  # float64
        assert torch.equal(weight, value)


@pytest.mark.parametrize("penalty", [L2(), L1(), Cubes()], ids=["L2", "L1", "base"])
def test_backward_with_alpha_zero_leaves_the_gradients(weights, penalty):
    before = gradients(weights)
    penalty.backward(weights, 0.0)
    assert all(torch.equal(w.grad, old) for w, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("penalty", [L2(), L1(), Cubes()], ids=["L2", "L1", "base"])
def test_gradients_carry_no_graph(weights, penalty):
    # a callback may look at them with .numpy(), as at any other gradient
    penalty.backward(weights, ALPHA)
    assert not any(weight.grad.requires_grad for weight in weights)


@pytest.mark.parametrize("penalty", [L2(), L1(), Cubes()], ids=["L2", "L1", "base"])
def test_a_weight_that_serves_twice_is_penalized_twice(penalty):
    tied = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    tied.grad = torch.zeros(1, 2)
    penalty.backward([tied, tied], ALPHA)
    (expected,) = torch.autograd.grad(ALPHA * penalty([tied, tied]), tied)
    torch.testing.assert_close(tied.grad, expected)


def test_a_penalty_must_say_what_it_is():
    with pytest.raises(NotImplementedError):
        Penalty()([])


def test_penalties_of_weights_are_no_penalties_of_rows():
    for penalty in (L2(), L1(), Penalty()):
        assert not penalty.on_rows
        assert not penalty.variational
        assert not penalty.depends_on_axes
        assert penalty.code_layer(3) is None


def test_a_penalty_of_codes_depends_on_their_axes_unless_it_says_otherwise():
    class OnCodes(Penalty):
        needs = ("code",)

    assert OnCodes().on_rows
    assert OnCodes().depends_on_axes
    assert ActivityL1().depends_on_axes
    assert KL().depends_on_axes
    assert not Contractive().depends_on_axes


def test_a_penalty_is_shown_with_what_it_was_given():
    class Thresholded(Penalty):
        def __init__(self, at):
            self.at = at

    assert repr(Thresholded(at=0.5)) == "Thresholded(at=0.5)"


# ---------------------------------------------------------------------------------- sparse codes


@pytest.fixture
def codes():
    rng = np.random.RandomState(0)
    return torch.tensor(rng.normal(size=(50, 3)) * [5, 1, 0.2])


def test_activity_l1_is_the_ratio_of_norms_of_each_component(codes):
    expected = [np.abs(c).mean() / np.sqrt(np.square(c).mean()) for c in codes.numpy().T]
    value = ActivityL1()(codes)
    assert value.shape == (50,)
    assert value.mean().item() == pytest.approx(np.mean(expected), rel=1e-9)  # 1e-12 added


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_activity_l1_of_codes_with_a_share_of_equal_entries_is_its_root(share):
    code = torch.zeros(50, 1, dtype=torch.float64)
    code[: round(50 * share)] = 3.0
    assert ActivityL1()(code).mean().item() == pytest.approx(np.sqrt(share), rel=1e-9)


def test_no_scale_of_any_component_changes_activity_l1(codes):
    value = ActivityL1()(codes)
    scaled = ActivityL1()(codes * torch.tensor([1e-2, 1.0, 1e3]))
    # 1e-12 is added to mean squares of 4e-6 here
    torch.testing.assert_close(scaled, value, rtol=1e-6, atol=0)


def test_activity_l1_pulls_at_no_component_as_a_whole(codes):
    # what falls when all codes shrink would make them shrink for ever, the decoder growing
    codes.requires_grad_()
    ActivityL1()(codes).mean().backward()
    assert codes.grad.abs().max() > 1e-4
    inner = (codes.grad * codes).sum(dim=0)
    np.testing.assert_allclose(inner.detach().numpy(), 0, atol=1e-10)  # 1e-12 added to squares


def test_components_of_zeros_are_free_and_have_a_gradient():
    code = torch.zeros(4, 2, requires_grad=True)
    value = ActivityL1()(code)
    assert not value.any()
    value.sum().backward()
    assert code.grad.isfinite().all()


def test_sparse_codes_end_in_a_soft_threshold():
    layer = ActivityL1().code_layer(3)
    assert isinstance(layer, SoftThreshold)
    assert layer.threshold.shape == (3,)


# ----------------------------------------------------------------------------------- contractive


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return MLP([5, 8, 3], "tanh").double()


@pytest.fixture
def x():
    return torch.tensor(np.random.RandomState(1).normal(size=(40, 5)), requires_grad=True)


def exact_contraction(encoder, x):
    """Return the squared Frobenius norm of each row's Jacobian, of whitened codes."""
    code = encoder(x).detach().numpy()
    inverse = np.linalg.inv(np.cov(code.T, bias=True).reshape(code.shape[1], -1))
    jacobians = [torch.autograd.functional.jacobian(encoder, row).numpy() for row in x.detach()]
    return np.array([np.trace(j.T @ inverse @ j) for j in jacobians])


def test_contractive_is_the_squared_norm_of_the_exact_jacobian(encoder, x):
    value = Contractive()(x, encoder(x))
    assert value.shape == (40,)
    # the covariance is ridged by 1e-4 of the mean variance; the smallest here is a twentieth of it
    np.testing.assert_allclose(value.detach().numpy(), exact_contraction(encoder, x), rtol=5e-3)


def test_its_estimate_is_right_on_average(encoder, x):
    penalty, code = Contractive(), encoder(x)
    draws = torch.stack([penalty.estimate(x, code).detach() for _ in range(2000)])
    standard_errors = draws.std(dim=0) / np.sqrt(len(draws))
    deviations = (draws.mean(dim=0) - penalty(x, code).detach()) / standard_errors
    assert draws.std(dim=0).min() > 0.01  # it is an estimate
    # 40 independent standard normal deviates: beyond 4.5 once in 4000 draws of all, a bias of a
    # tenth of R would be at least 5
    assert deviations.abs().max() < 4.5


def test_so_is_the_gradient_of_the_estimate(encoder, x):
    penalty, weight = Contractive(), encoder[0].weight
    (exact,) = torch.autograd.grad(penalty(x, encoder(x)).mean(), weight)
    draws = torch.stack(
        [
            torch.autograd.grad(penalty.estimate(x, encoder(x)).mean(), weight)[0]
            for _ in range(1000)
        ]
    )
    standard_errors = draws.std(dim=0) / np.sqrt(len(draws))
    assert ((draws.mean(dim=0) - exact) / standard_errors).abs().max() < 4.5  # as above
    assert exact.abs().max() > 10 * standard_errors.max()


@pytest.mark.parametrize("kind", ["scale", "hidden", "rotation"])
def test_no_linear_map_that_a_decoder_could_undo_changes_contractive(encoder, x, kind):
    code = encoder(x)
    value = Contractive()(x, code)
    maps = {
        "scale": torch.diag(torch.tensor([1e-1, 1.0, 10.0])),
        # one component in a small difference between two
        "hidden": torch.tensor([[1.0, 0, 0], [1.0, 0.1, 0], [0, 0, 1]]),
        "rotation": torch.linalg.qr(torch.randn(3, 3))[0],
    }
    mapped = Contractive()(x, code @ maps[kind].double().T)
    # the ridge is not invariant: it moves R by 1e-4 times the ratio of mean to least variance
    rtol = {"scale": 0.5, "hidden": 0.1, "rotation": 1e-9}[kind]
    torch.testing.assert_close(mapped, value, rtol=rtol, atol=0)


def test_contractive_pulls_at_no_scale_of_the_codes(encoder, x):
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = Contractive()(x, scale * encoder(x)).mean()
    (gradient,) = torch.autograd.grad(value, scale)
    assert abs(gradient.item()) < 1e-6 * value.item()  # float64; 1e-12 is added to the covariance


def test_of_a_linear_encoder_contractive_is_the_sum_of_inverse_variances():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 4)) * [3, 2, 1, 0.5]
    pca = PCA(2).fit(X)
    x = torch.tensor(X - X.mean(axis=0), requires_grad=True)
    components = torch.tensor(pca.components_)
    value = Contractive()(x, x @ components.T).mean().item()
    variances = pca.explained_variance_ * 199 / 200
    # the ridge is 1e-4 of a mean variance of 6.5, beside variances of 9 and 4
    assert value == pytest.approx((1 / variances).sum(), rel=1e-3)
    for other in (torch.eye(4)[2:], torch.eye(4)[[0, 3]]):
        assert Contractive()(x, x @ other.double().T).mean().item() > value


def test_contractive_is_bounded_where_components_do_not_vary():
    x = torch.randn(10, 3, requires_grad=True)
    code = torch.stack([x[:, 0], 0 * x[:, 1]], dim=1)
    value = Contractive()(x, code)
    assert value.isfinite().all()


def test_codes_that_are_not_finite_make_contractive_not_finite():
    # no exception: the net ends training at such a loss, with its last good weights
    x = torch.randn(10, 3, requires_grad=True)
    value = Contractive().estimate(x, x[:, :2] * torch.nan)
    assert not value.isfinite().any()


# -------------------------------------------------------------------------------------------- KL


def test_kl_is_that_of_torch_and_positive():
    rng = np.random.RandomState(0)
    mean, log_variance = (torch.tensor(rng.normal(size=(6, 3))) for _ in range(2))
    prior = Normal(torch.zeros(3).double(), torch.ones(3).double())
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), prior).sum(dim=1)
    value = KL()(mean, log_variance)
    assert bool((value > 0).all())
    torch.testing.assert_close(value, expected)  # float64
    assert KL().variational


def test_kl_is_zero_at_the_prior_alone():
    zero = torch.zeros(1, 2)
    assert KL()(zero, zero).item() == 0
    for mean, log_variance in [(1e-2, 0.0), (0.0, 1e-2), (0.0, -1e-2)]:
        assert KL()(zero + mean, zero + log_variance).item() > 1e-5


def test_kl_is_never_clamped():
    mean = torch.tensor([[1e-4, 1e6]], requires_grad=True)
    log_variance = torch.tensor([[-60.0, 1e-4]], requires_grad=True)
    KL()(mean, log_variance).sum().backward()
    torch.testing.assert_close(mean.grad, mean.detach())
    torch.testing.assert_close(log_variance.grad, 0.5 * log_variance.detach().expm1())


class Both(Penalty):
    needs = ("weights", "code")

    def __call__(self, weights, code):
        return sum(weight.square().sum() for weight in weights) + 0 * code.sum(dim=1)


class Variances(Penalty):
    needs = ("log_variance",)


def test_what_a_penalty_needs_says_what_kind_it_is_of():
    assert (Both().on_rows, Both().variational) == (True, False)
    assert (Variances().on_rows, Variances().variational) == (True, True)


def test_the_contraction_of_codes_that_have_collapsed_is_finite():
    x = torch.randn(5, 3, requires_grad=True)
    for rate in (Contractive(), Contractive().estimate):
        assert rate(x, 0 * x[:, :2]).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_rows", [1, 7, 8])
def test_of_equal_rows_there_is_nothing_to_contract(n_rows, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, generator=generator, dtype=dtype).repeat(n_rows, 1).requires_grad_()
    weight = torch.randn(3, 2, generator=generator, dtype=dtype).requires_grad_()
    for rate in (Contractive(), Contractive().estimate):
        values = rate(x, (x @ weight).tanh())
        (gradient,) = torch.autograd.grad(values.sum(), weight)
        assert torch.equal(values, torch.zeros(n_rows, dtype=dtype))
        assert torch.equal(gradient, torch.zeros_like(weight))


def test_contraction_is_in_the_precision_of_the_codes():
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    assert Contractive()(x, 2 * x[:, :2]).dtype == torch.float64
