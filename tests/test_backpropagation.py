"""Written-out backpropagation, against autograd."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from skae._backpropagation import (
    _LAYERS,
    Evaluated,
    FlatWeights,
    WrittenOut,
    _BoundedClip,
    is_evaluated,
    is_known,
    is_untouched,
)
from skae._mixed import N_EMBEDDED, Layout, MixedInput, MixedLoss, MixedOutput
from skae.losses import Huber, Loss, SquaredError
from skae.modules import (
    ACTIVATIONS,
    MLP,
    Autoencoder,
    Filled,
    Gate,
    LinearSkip,
    Logistic,
    SoftClip,
    TiedLinear,
)

N_FEATURES, N_COMPONENTS = 5, 2


def autoencoder(activation="gelu", hidden=(6,), skip=True, seed=0, **kwargs):
    torch.manual_seed(seed)
    widths = [N_FEATURES, *hidden, N_COMPONENTS]
    encoder, decoder = (MLP(w, activation, **kwargs) for w in (widths, widths[::-1]))
    if skip:
        to_code = nn.Linear(N_FEATURES, N_COMPONENTS, bias=False)
        to_row = nn.Linear(N_COMPONENTS, N_FEATURES, bias=False)
        # of which some are bent hard
        encoder = LinearSkip(to_code, encoder, SoftClip(torch.rand(N_FEATURES), at=1.0))
        decoder = LinearSkip(to_row, decoder, SoftClip(torch.rand(N_COMPONENTS), at=1.0))
    return Autoencoder(encoder, decoder)


def rows(n=7, seed=1):
    return torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(seed))


def attached(module, optimizer=torch.optim.SGD, **options):
    """Return the flat weights of a module, and an optimiser that has them."""
    optimizer = optimizer(module.parameters(), lr=0.01, **options)
    flat = FlatWeights(list(module.parameters()), module.penalized_weights(), optimizer)
    flat.attach()
    return flat, optimizer


def by_autograd(module, x, target):
    loss = (module(x) - target).square().mean()
    return loss.detach(), torch.autograd.grad(loss, list(module.parameters()))


# ------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 4), (12, 9)])  # up to 8 are few inputs to it
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_and_loss_are_those_of_autograd(activation, hidden, skip, bias):
    module = autoencoder(activation, hidden, skip, linear=partial(nn.Linear, bias=bias))
    assert is_known(module, SquaredError())
    attached(module)
    step = WrittenOut(module, SquaredError())
    # batches of two sizes in turn, whose targets are other rows, as with corruption
    for n, seed in [(7, 1), (6, 2), (7, 3), (1, 4)]:
        x, target = rows(n, seed), rows(n, seed + 10)
        expected_loss, expected = by_autograd(module, x, target)
        loss = step(x, target)
        # sums of a few dozen float32 products, in another order
        torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
        for weight, gradient in zip(module.parameters(), expected, strict=True):
            scale = gradient.abs().max().item()
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-5 * scale)
        assert torch.equal(x, rows(n, seed))
        assert torch.equal(target, rows(n, seed + 10))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("n", [1, 3, 2**15 // 12, 2**15 // 12 + 1])
def test_gelu_of_few_and_of_many_values_is_torchs(n, approximate):
    torch.manual_seed(0)
    module, x = nn.GELU(approximate), torch.randn(n, 12, requires_grad=True)
    gradient = torch.randn(n, 12)
    module(x).backward(gradient)
    layer = _LAYERS[nn.GELU](module, x.shape[:-1])
    # other approximations of erf, each to float32's rounding of numbers up to 5
    torch.testing.assert_close(layer.forward(x.detach()), module(x).detach(), rtol=0, atol=2e-6)
    torch.testing.assert_close(layer.backward(gradient, True), x.grad, rtol=0, atol=5e-6)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_gradients_and_loss_of_rows_with_gaps_are_those_of_autograd(missing):
    def holey(x, seed):
        hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < missing
        return x.masked_fill(hidden, torch.nan)

    training = holey(rows(50), 2)
    loss = MixedLoss(SquaredError(), Layout([0] * N_FEATURES), []).weigh([training])
    loss.weights[0] *= 3  # of which each counts
    module = autoencoder()
    assert is_known(module, loss)
    attached(module)
    step = WrittenOut(module, loss)
    for n, seed in [(7, 1), (6, 2)]:
        x, target = rows(n, seed), holey(rows(n, seed + 10), seed + 20)
        expected = loss(module(x), target).mean()
        gradients = torch.autograd.grad(expected, list(module.parameters()))
        # sums of a few dozen float32 products, in another order
        torch.testing.assert_close(step(x, target), expected.detach(), rtol=1e-5, atol=0)
        for weight, gradient in zip(module.parameters(), gradients, strict=True):
            scale = gradient.abs().max().item()
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-5 * scale)


def mixed(layout, loss):
    """Return an autoencoder of rows of numbers and categories, its loss, and a maker of rows."""
    generator = torch.Generator().manual_seed(0)
    sizes = [layout.n_categories[j] for j in layout.categorical]
    shares = [torch.rand(n, generator=generator) + 0.1 for n in sizes]
    shares = [some / some.sum() for some in shares]
    n_embedded = len(layout.embedded)
    vectors = [torch.randn(n, N_EMBEDDED) for n in sizes[len(sizes) - n_embedded :]]
    inputs = MixedInput(layout, shares, vectors)
    k, n_inputs = N_COMPONENTS, layout.n_inputs
    filled = Filled(torch.randn(k, n_inputs, generator=generator) / n_inputs, torch.ones(k))
    halves = MLP([n_inputs, 6, k], "gelu"), MLP([k, 6, n_inputs], "gelu")
    module = Autoencoder(
        *halves, MixedOutput(layout, shares, inputs), nn.Sequential(inputs, filled)
    )

    def rows(n, seed, missing=0.0):
        random = torch.Generator().manual_seed(seed)
        columns = [
            torch.randint(1, m + 1, (n,), generator=random)
            if m
            else torch.randn(n, generator=random)
            for m in layout.n_categories
        ]
        x = torch.stack([column.float() for column in columns], dim=1)
        return x.masked_fill(torch.rand(x.shape, generator=random) < missing, torch.nan)

    return module, MixedLoss(loss, layout, shares).weigh([rows(60, 1)]), rows


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("n_categories", [(0, 3, 0, 2), (4, 2), (2, 0, 0)], ids=str)
def test_gradients_and_loss_beside_categories_are_those_of_autograd(n_categories, missing):
    module, loss, rows = mixed(Layout(n_categories), SquaredError())
    assert is_known(module, loss)
    attached(module)
    step = WrittenOut(module, loss)
    for n, seed in [(7, 1), (6, 2)]:
        x, target = rows(n, seed, 0.3), rows(n, seed + 10, missing)
        expected = loss(module(x), target).mean()
        gradients = torch.autograd.grad(expected, list(module.parameters()))
        before = target.clone()
        # sums of a few dozen float32 products, in another order
        error = step(x, target)
        torch.testing.assert_close(error, expected.detach(), rtol=1e-5, atol=0)
        for weight, gradient in zip(module.parameters(), gradients, strict=True):
            scale = gradient.abs().max().item()
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(target, before, rtol=0, atol=0, equal_nan=True)


def test_other_losses_and_learned_vectors_are_left_to_autograd():
    numbers = Layout([0] * N_FEATURES)
    assert not is_known(autoencoder(), MixedLoss(Huber(), numbers, []))
    for layout, loss in ((Layout([0, 2]), Huber()), (Layout([0, 2, 60]), SquaredError())):
        module, loss, _ = mixed(layout, loss)
        assert not is_known(module, loss)
    module, loss, _ = mixed(Layout([0, 2]), SquaredError())
    module.output.register_forward_hook(lambda *args: None)
    assert not is_known(module, loss)


def test_gelu_is_differentiated_in_the_form_that_it_has():
    module = autoencoder()
    module.encoder.branch[1].approximate = "tanh"
    _, expected = by_autograd(module, rows(), rows())
    attached(module)
    WrittenOut(module, SquaredError())(rows(), rows())
    for weight, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------- what is known


def replaced(make):
    module = autoencoder(skip=False)
    module.encoder = make(module)
    return module


def frozen(module):
    module.decoder.linear.weight.requires_grad_(False)
    return module


HOOKS = ("forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook")


def hooked(module, kind="forward_hook"):
    getattr(module.encoder.branch, f"register_{kind}")(lambda *args: None)
    return module


def transposed(n_in, n_out):
    layer = nn.Linear(n_in, n_out)
    layer.weight = nn.Parameter(torch.randn(n_in, n_out).T)
    return layer


class OwnMLP(MLP):
    pass


@pytest.mark.parametrize(
    ("module", "criterion"),
    [
        (autoencoder(), Huber()),
        (autoencoder(), Loss(lambda x_hat, x: (x_hat - x).square().mean(dim=1))),
        (autoencoder(dropout=0.5), SquaredError()),
        (frozen(autoencoder()), SquaredError()),
        (hooked(autoencoder()), SquaredError()),
        (autoencoder().double(), SquaredError()),
        (replaced(lambda m: nn.Sequential(*m.encoder)), SquaredError()),
        (replaced(lambda m: Gate(m.encoder)), SquaredError()),
        (replaced(lambda m: OwnMLP([N_FEATURES, 6, N_COMPONENTS])), SquaredError()),
        (
            replaced(lambda m: MLP([5, 2], linear=lambda *n: TiedLinear(nn.Linear(2, 5)))),
            SquaredError(),
        ),
        (
            replaced(lambda m: LinearSkip(nn.Linear(5, 2), m.encoder, SoftClip(torch.ones(5)))),
            SquaredError(),
        ),
        (Autoencoder(MLP([5, 2]), MLP([2, 5]), Logistic(torch.zeros(5), 1.0)), SquaredError()),
        # the loss's gradient is put where the output was, which these read again
        (Autoencoder(MLP([5, 2]), MLP([2, 5]).append(nn.Tanh())), SquaredError()),
        (Autoencoder(MLP([5, 5]).append(nn.Tanh()), nn.Identity()), SquaredError()),
        (replaced(lambda m: MLP([5, 2], linear=transposed)), SquaredError()),
    ],
)
def test_what_is_not_known_is_left_to_autograd(module, criterion):
    assert not is_known(module, criterion)


def test_a_layer_that_serves_twice_is_left_to_autograd():
    layer = nn.Linear(4, 4)
    encoder = MLP([4, 4, 4], linear=lambda n_in, n_out: layer)
    assert not is_known(Autoencoder(encoder, MLP([4, 4])), SquaredError())


def ending_in_its_only_activation():
    branch = MLP([4, 4, 4], "tanh")
    return branch.append(branch[1])


@pytest.mark.parametrize(
    "branch",
    [
        nn.Identity(),
        nn.Tanh(),
        nn.GELU(),
        MLP([4, 4]).append(nn.Tanh()),
        ending_in_its_only_activation(),
        nn.Sequential(),
    ],
)
def test_branches_whose_output_serves_themselves_are_not_summed_in_place(branch):
    square = LinearSkip(nn.Linear(4, 4, bias=False), branch, SoftClip(torch.ones(4)))
    module = Autoencoder(square, MLP([4, 4]))
    assert not is_known(module, SquaredError())
    assert not is_evaluated(module)
    square.branch = MLP([4, 4])
    assert is_known(module, SquaredError())
    assert is_evaluated(module)


@pytest.mark.parametrize("touch", [frozen, *(partial(hooked, kind=kind) for kind in HOOKS)])
def test_whether_a_callback_has_touched_the_module_is_seen(touch):
    module = autoencoder()
    parts, weights = list(module.modules()), list(module.parameters())
    assert is_untouched(parts, weights)
    touch(module)
    assert not is_untouched(parts, weights)


# ---------------------------------------------------------------------------------- flat weights


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_attached_weights_are_views_of_the_vector_with_the_penalised_ones_first():
    module = autoencoder()
    before = values(module)
    flat, _ = attached(module)
    penalized = torch.cat([weight.flatten() for weight in module.penalized_weights()])
    assert torch.equal(flat.penalized[0], penalized)
    assert all(torch.equal(value, before[name]) for name, value in values(module).items())
    flat.vector.data.fill_(3.0)
    flat.vector.grad.fill_(4.0)
    for weight in module.parameters():
        assert (weight == 3).all()
        assert (weight.grad == 4).all()
    flat.penalized[0].grad.zero_()
    assert all((weight.grad == 0).all() for weight in module.penalized_weights())


def test_weights_that_were_given_other_values_are_attached_again_with_them():
    module = autoencoder()
    flat, _ = attached(module)
    module.decoder.linear.weight.data = torch.full((N_FEATURES, N_COMPONENTS), 7.0)
    flat.attach()
    flat.vector.data.mul_(2)
    assert (module.decoder.linear.weight == 14).all()


def test_detached_weights_have_their_values_and_memory_of_their_own():
    module = autoencoder()
    flat, _ = attached(module)
    before = values(module)
    flat.detach()
    flat.vector.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in values(module).items())
    for weight in module.parameters():
        assert weight.untyped_storage().nbytes() == 4 * weight.numel()
        assert weight.grad is None


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_the_optimiser_goes_on_with_each_weight_as_if_it_had_always_had_it(kind, options):
    flat_module = autoencoder()
    plain_module = copy.deepcopy(flat_module)
    plain = kind(plain_module.parameters(), lr=0.01, **options)
    flat, optimizer = attached(flat_module, kind, **options)
    for i in range(6):
        if i == 3:
            flat.give_back()
        for module, steps in ((plain_module, plain), (flat_module, optimizer)):
            _, gradients = by_autograd(module, rows(), rows())
            for weight, gradient in zip(module.parameters(), gradients, strict=True):
                if weight.grad is None:
                    weight.grad = torch.empty_like(weight)
                weight.grad.copy_(gradient)
            steps.step()
    for ours, theirs in zip(flat_module.parameters(), plain_module.parameters(), strict=True):
        # vectorised arithmetic and that of a tensor's last few entries may round otherwise
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------- evaluation


def trained(*args, **kwargs):
    """Return an autoencoder as fits leave them, with axes that are turned."""
    module = autoencoder(*args, **kwargs)
    axes = [nn.Linear(N_COMPONENTS, N_COMPONENTS) for _ in range(2)]
    module.encoder = nn.Sequential(module.encoder, axes[0])
    module.decoder = nn.Sequential(axes[1], module.decoder)
    return module.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_evaluated_passes_are_those_of_the_module(activation, hidden, skip, dtype):
    module = trained(activation, hidden, skip, dropout=0.5).to(dtype)
    assert is_evaluated(module)
    evaluated = Evaluated(module)
    # sums of a few dozen products, in another order
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 0}
    with torch.inference_mode():
        for n, seed in [(7, 1), (6, 2), (7, 3), (1, 4)]:
            x = rows(n, seed).to(dtype)
            kept = x.clone()
            for passed, expected in (
                (evaluated.encode, module.encode),
                (evaluated.decode, module.decode),
                (evaluated, module),
            ):
                given = x[:, :N_COMPONENTS].contiguous() if passed == evaluated.decode else x
                torch.testing.assert_close(passed(given), expected(given), **close)
            assert torch.equal(x, kept)


@pytest.mark.parametrize("size", [1e6, 1e15, 1e19, 1e30])
def test_evaluated_branches_are_bent_at_any_size(size):
    module = autoencoder().eval()
    x = size * rows().sign()
    bent = _BoundedClip(module.encoder.clip, x.shape[:-1]).forward(x)
    # two roundings more than the quotient's
    torch.testing.assert_close(bent, module.encoder.clip(x), rtol=1e-6, atol=0)
    torch.testing.assert_close(Evaluated(module).encode(x), module.encode(x), rtol=1e-5, atol=0)


def test_layers_without_biases_are_evaluated():
    module = autoencoder(linear=partial(nn.Linear, bias=False)).eval()
    assert is_evaluated(module)
    with torch.inference_mode():
        torch.testing.assert_close(Evaluated(module)(rows()), module(rows()), rtol=1e-5, atol=1e-6)


def test_evaluation_goes_through_what_fills_gaps_and_through_the_output():
    module = trained()
    module.input = Filled(torch.eye(N_FEATURES)[:2], torch.ones(2))
    module.output = Logistic(torch.full((N_FEATURES,), 0.5), 0.5)
    x = rows()
    x[2, 3] = torch.nan
    with torch.inference_mode():
        torch.testing.assert_close(Evaluated(module)(x), module(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.encoder[0].branch[0].register_forward_hook(lambda *args: None),
        lambda module: module.register_forward_pre_hook(lambda *args: None),
        lambda module: module.decoder.append(Gate(nn.Identity())),
        lambda module: module.decoder.append(nn.LayerNorm(N_FEATURES)),
        lambda module: module.decoder.append(type("Own", (nn.Linear,), {})(N_FEATURES, N_FEATURES)),
        lambda module: setattr(module.encoder[0], "linear", nn.Linear(N_FEATURES, N_COMPONENTS)),
    ],
)
def test_what_is_not_known_is_left_to_the_module(change):
    module = trained()
    assert is_evaluated(module)
    change(module)
    assert not is_evaluated(module)
