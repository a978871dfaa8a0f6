"""The U-Net's contract: dtypes, independence of the batch, attention as an argument, labels, dropout, errors."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from diffjax.nn import UNet, plain, presets, resample
from diffjax.nn.attention import SelfAttention
from diffjax.nn.conv import Conv
from diffjax.nn.unet import Block

TINY = dict(width=8, multipliers=(1, 2), blocks=1)
CONFIGURATIONS = {
    "ddpm": presets.ddpm(**TINY, attention=(8,)),
    "ddpmpp": presets.ddpmpp(**TINY, attention=(8,), num_classes=3),
    "ncsnpp": presets.ncsnpp(**TINY, attention=(8,)),
    "small": presets.small(width=8, dropout=0.5),
}
SMALL = CONFIGURATIONS["small"]
X = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
T = np.full(2, 0.3, np.float32)


@partial(jax.jit, static_argnames=("net", "train"))
def apply(net, params, x, t, cond=None, *, train=False, rngs=None):
    """One program for all tests of a network that give it the same shapes."""
    return net.apply(params, x, t, cond, train=train, rngs=rngs)


def draw_params(net, *inputs):
    """Parameters of ordinary size, drawn without running or compiling the network's own initialisation."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: (rng.normal(size=p.shape) * p.size**-0.3).astype(p.dtype), shapes)


def scaled(scale, site, q, k, v):
    return scale * plain(site, q, k, v)


FAST = {"ncsnpp", "small"}  # of the layers that the others have


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in CONFIGURATIONS]
)
def built(request):
    """A tiny network of each kind as a function of (x, t, a factor of its attention), and its parameters."""
    net = CONFIGURATIONS[request.param]
    params = draw_params(net, X, T)
    return net, lambda x, t, scale=1.0: apply(net, params, x, t, {"attend": Partial(scaled, scale)}), params


def test_shapes_and_dtypes(built):
    net, run, params = built
    out = run(X, T)
    assert (out.shape, out.dtype) == (X.shape, jnp.float32)
    low = jax.eval_shape(net.clone(dtype=jnp.bfloat16).apply, params, X, 0.3)
    assert low.dtype == jnp.float32


@pytest.mark.slow
def test_a_new_network_returns_almost_zero_and_bf16_is_close():
    params = draw_params(SMALL, X, T)
    last = jax.jit(lambda key: SMALL.init(key, X, 0.0)["params"]["conv_out"])(jax.random.key(0))  # the rest is pruned
    new = {"params": {**params["params"], "conv_out": last}}
    assert float(jnp.abs(apply(SMALL, new, X, T)).max()) < 1e-3
    full, half = (apply(net, params, X, T) for net in (SMALL, SMALL.clone(dtype=jnp.bfloat16)))
    np.testing.assert_allclose(half, full, atol=0.15 * float(jnp.abs(full).max()))  # 8 bits, through some 20 layers


def test_each_example_is_independent(built):
    _, run, _ = built
    both = run(X, T)
    np.testing.assert_allclose(run(np.stack([0 * X[0], X[1]]), T)[1], both[1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(run(X, T + 4.7), both, atol=1e-3)  # the noise level matters


@pytest.mark.slow
def test_a_batch_of_one_and_a_scalar_noise_level():
    params = draw_params(SMALL, X, T)
    both = apply(SMALL, params, X, T)
    np.testing.assert_allclose(apply(SMALL, params, X[1:], T[1:]), both[1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(SMALL, params, X, 0.3), both, rtol=1e-6)


def test_attention_is_an_argument_at_every_site(built):
    net, run, params = built
    sites = []

    def spy(site, q, k, v):
        sites.append(site)
        return plain(site, q, k, v)

    attend = lambda attend: jax.eval_shape(lambda x: net.apply(params, x, T, {"attend": attend}), X)  # noqa: E731
    attend(spy)
    assert len({site.path for site in sites}) == len(sites) > 0
    assert all(site.height == site.width and not site.is_cross for site in sites)
    assert not np.allclose(run(X, T, 3.0), run(X, T), atol=1e-4)  # the same trace
    with pytest.raises(ValueError, match="must return the shape of q"):
        attend(lambda site, q, k, v: q[:1])


def test_attention_is_plain_if_none_is_given():
    params = draw_params(SMALL, X, T)
    given = apply(SMALL, params, X, T, {"attend": Partial(scaled, 1.0)})
    np.testing.assert_allclose(apply(SMALL, params, X, T), given, rtol=1e-4, atol=1e-5)


def test_labels_and_the_null_label():
    net, attend = CONFIGURATIONS["ddpmpp"], Partial(scaled, 1.0)
    x, params = np.ones_like(X), draw_params(net, X, T)
    out = [apply(net, params, x, T, {"attend": attend, "label": np.array(labels)}) for labels in ([0, 1], [2, 3])]
    out = np.concatenate(out)
    assert all(not np.allclose(out[i], out[j], atol=1e-6) for i in range(4) for j in range(i))
    null = apply(net, params, x, T, {"attend": attend})  # no label: the null label
    np.testing.assert_allclose(null[0], out[3], rtol=1e-4, atol=1e-5)


def test_dropout_only_in_training():
    net = SMALL.clone(multipliers=(1,))
    params = draw_params(net, X, T)
    still = apply(net, params, X, T)
    a, b = (apply(net, params, X, T, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    np.testing.assert_array_equal(still, apply(net, params, X, T))
    assert not np.allclose(a, b) and not np.allclose(a, still)


class EachLayer(nn.Module):
    """Every kind of layer of the U-Net, once."""

    @nn.compact
    def __call__(self, x, emb):
        h = Conv(8)(x)
        h = Block(16, partial(resample.down, kernel=(1, 3, 3, 1)))(h, emb, False)
        h = SelfAttention()(h, plain)
        h = Block(8, partial(resample.up, kernel=(1, 1)))(h, emb, False)
        return Conv(1, stride=2)(h)


@pytest.mark.slow
def test_gradients_agree_inside_and_outside_a_loop():
    net, x, emb = EachLayer(), X[..., :1], np.ones((2, 4), np.float32)
    params = draw_params(net, x, emb)
    grad = jax.grad(lambda p: (net.apply(p, x, emb) ** 2).mean())
    looped = jax.jit(lambda p: jax.lax.scan(lambda c, _: (c, grad(p)), 0, None, length=2)[1])(params)
    grads = (jax.tree.leaves(jax.device_get(tree)) for tree in (jax.jit(grad)(params), looped))
    for once, twice in zip(*grads, strict=True):
        assert np.abs(once).max() > 0
        np.testing.assert_allclose(twice[1], once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "cond", "message"),
    [
        (jnp.zeros((2, 8, 8)), None, r"\[B, H, W, C\]"),
        (jnp.zeros((2, 6, 6, 1)), None, "divisible by 4"),
        (jnp.zeros((2, 8, 8, 1)), {"label": jnp.zeros(2, int)}, "num_classes"),
        (jnp.zeros((2, 8, 8, 1)), {"lable": 0}, "takes the condition entries"),
    ],
)
def test_bad_input(x, cond, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x, cond: presets.small(width=8).init(jax.random.key(0), x, 0.0, cond), x, cond)


def test_wrong_number_of_levels():
    with pytest.raises(ValueError, match="one per example"):
        jax.eval_shape(UNet(**TINY, attention=()).init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)), jnp.zeros(3))


@pytest.mark.slow
def test_a_flow_maps_slopes_through_attention_in_float32_and_bfloat16():
    """The jvp that flow maps are trained by, along x and both times, against a difference; and its gradient exists."""
    net = UNet(width=8, multipliers=(1,), blocks=1, attention=(8,), dropout=0.0)
    t, s, dx = 10 * T, 3 * T, np.ones_like(X)
    params = draw_params(net, X, (t, s))
    at = lambda net, params, h: net.apply(params, X + h * dx, (t + h, s - 2 * h))  # noqa: E731
    slope = lambda net, params: jax.jvp(lambda h: at(net, params, h), (0.0,), (1.0,))[1]  # noqa: E731
    exact, low = (jax.jit(slope, static_argnums=0)(n, params) for n in (net, net.clone(dtype=jnp.bfloat16)))
    moved = [apply(net, params, X + h * dx, (t + h, s - 2 * h)) for h in np.array([1e-2, -1e-2], np.float32)]
    size = float(jnp.abs(exact).max())
    np.testing.assert_allclose(exact, (moved[0] - moved[1]) / 2e-2, atol=0.01 * size)
    assert low.dtype == jnp.float32 and size > 0.01
    np.testing.assert_allclose(low, exact, atol=0.15 * size)
    assert not np.allclose(moved[0], apply(net, params, X, (t, s + 5)), atol=0.02)  # the second level is used
    for n in (net, net.clone(dtype=jnp.bfloat16)):
        grads = jax.eval_shape(jax.grad(lambda p, n=n: (slope(n, p) ** 2).mean()), params)
        assert jax.tree.structure(grads) == jax.tree.structure(params)
