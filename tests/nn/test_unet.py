"""The U-Net's contract: dtypes, independence of the batch, attention as an argument, labels, dropout, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from diffjax.nn import UNet, plain, presets

TINY = dict(width=8, multipliers=(1, 2), blocks=1)
CONFIGURATIONS = {
    "ddpm": presets.ddpm(**TINY, attention=(8,)),
    "ddpmpp": presets.ddpmpp(**TINY, attention=(8,), num_classes=3),
    "ncsnpp": presets.ncsnpp(**TINY, attention=(8,)),
    "small": presets.small(width=8),
}


def draw_params(net, x):
    """Parameters of ordinary size, drawn without running or compiling the network's own initialisation."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, 0.0)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * p.size**-0.3, p.dtype), shapes)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def built(request):
    """A tiny network of each kind, compiled, its parameters, and a batch."""
    net = CONFIGURATIONS[request.param]
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 2))
    return net, jax.jit(net.apply), draw_params(net, x), x


def test_shapes_and_dtypes(built):
    net, apply, params, x = built
    out = apply(params, x, jnp.array([0.3, 0.3]))
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)
    low = jax.eval_shape(net.clone(dtype=jnp.bfloat16).apply, params, x, 0.3)
    assert low.dtype == jnp.float32


def test_a_new_network_returns_almost_zero_and_bf16_is_close():
    net, x = presets.small(width=8), jnp.ones((1, 8, 8, 1))
    assert float(jnp.abs(net.apply(jax.jit(net.init)(jax.random.key(0), x, 0.0), x, 0.0)).max()) < 1e-3
    params = draw_params(net, x)
    full, half = (jax.jit(n.apply)(params, x, 0.0) for n in (net, net.clone(dtype=jnp.bfloat16)))
    np.testing.assert_allclose(half, full, atol=0.15 * float(jnp.abs(full).max()))  # 8 bits, through some 20 layers


def test_each_example_is_independent(built):
    _, apply, params, x = built
    both = apply(params, x, jnp.array([0.3, 0.3]))
    np.testing.assert_allclose(apply(params, x[1:], jnp.array([0.3])), both[1:], rtol=1e-4, atol=1e-5)
    assert not np.allclose(apply(params, x, jnp.array([5.0, 5.0])), both, atol=1e-3)  # the noise level matters


def test_a_scalar_noise_level_serves_the_batch():
    net, x = presets.small(width=8), jnp.ones((2, 8, 8, 1))
    params = draw_params(net, x)
    np.testing.assert_allclose(net.apply(params, x, 0.3), net.apply(params, x, jnp.full(2, 0.3)), rtol=1e-6)


def test_attention_is_an_argument_at_every_site(built):
    net, apply, params, x = built
    sites = []

    def spy(scale, site, q, k, v):
        sites.append(site)
        return scale * plain(site, q, k, v)

    t = jnp.array([0.3, 0.3])
    out = apply(params, x, t)
    once = apply(params, x, t, {"attend": Partial(spy, 1.0)})
    np.testing.assert_allclose(once, out, rtol=1e-4, atol=1e-5)
    assert len({site.path for site in sites}) == len(sites) > 0
    assert all(site.height == site.width and not site.is_cross for site in sites)
    assert not np.allclose(apply(params, x, t, {"attend": Partial(spy, 3.0)}), out, atol=1e-4)  # the same trace
    with pytest.raises(ValueError, match="must return the shape of q"):
        jax.eval_shape(net.apply, params, x, t, {"attend": Partial(lambda site, q, k, v: q[:1])})


def test_labels_and_the_null_label():
    net = presets.small(width=8, num_classes=3)
    x = jnp.ones((4, 8, 8, 1))
    params, apply = draw_params(net, x), jax.jit(net.apply)
    out = apply(params, x, 0.0, {"label": jnp.array([0, 1, 2, 3])})
    assert all(not np.allclose(out[i], out[j], atol=1e-6) for i in range(4) for j in range(i))
    np.testing.assert_allclose(apply(params, x, 0.0)[0], out[3], rtol=1e-4, atol=1e-5)  # no label: the null label


def test_dropout_only_in_training():
    net = presets.small(width=8, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    params = draw_params(net, x)
    apply = jax.jit(net.apply, static_argnames="train")
    still = apply(params, x, 0.0)
    a, b = (apply(params, x, 0.0, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    np.testing.assert_array_equal(still, apply(params, x, 0.0))
    assert not np.allclose(a, b) and not np.allclose(a, still)


def test_gradients_agree_inside_and_outside_a_loop():
    net = presets.small(width=8)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    params = draw_params(net, x)
    grad = jax.grad(lambda p: (net.apply(p, x, 0.0) ** 2).mean())
    looped = jax.jit(lambda p: jax.lax.scan(lambda c, _: (c, grad(p)), 0, None, length=2)[1])(params)
    for once, twice in zip(jax.tree.leaves(jax.jit(grad)(params)), jax.tree.leaves(looped), strict=True):
        np.testing.assert_allclose(twice[1], once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "cond", "message"),
    [
        (jnp.zeros((2, 8, 8)), None, r"\[B, H, W, C\]"),
        (jnp.zeros((2, 6, 6, 1)), None, "divisible by 4"),
        (jnp.zeros((2, 8, 8, 1)), {"label": jnp.zeros(2, int)}, "num_classes"),
        (jnp.zeros((2, 8, 8, 1)), {"lable": 0}, "optional entries"),
    ],
)
def test_bad_input(x, cond, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x, cond: presets.small(width=8).init(jax.random.key(0), x, 0.0, cond), x, cond)


def test_wrong_number_of_levels():
    with pytest.raises(ValueError, match="one per example"):
        jax.eval_shape(UNet(**TINY, attention=()).init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)), jnp.zeros(3))
