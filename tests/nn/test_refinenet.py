"""The RefineNets against the layer lists of NCSN and NCSNv2: parameters by arithmetic, values by a NumPy derivation."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import precondition
from diffjax.nn import RefineNet, presets
from diffjax.nn.norm import InstanceNormPlus
from diffjax.nn.refinenet import LINEAR, avg_pool, max_pool

# The lists of the authors' code, in units of ngf. The first residual block of each level: (in, out, "" or "down" or
# "dilated", which has a 3 x 3 convolution in its skip); a block (out, out, "") follows.
LEVELS = {
    64: [(1, 1, ""), (1, 2, "down"), (2, 2, "dilated"), (2, 2, "dilated")],
    128: [(1, 1, ""), (1, 2, "down"), (2, 2, "down"), (2, 4, "dilated"), (4, 4, "dilated")],
    256: [(1, 1, ""), (1, 2, "down"), (2, 2, "down"), (2, 2, "down"), (2, 4, "dilated"), (4, 4, "dilated")],
}
CASCADES = {  # from below: (in of each input, out)
    64: [([2], 2), ([2, 2], 2), ([2, 2], 1), ([1, 1], 1)],
    128: [([4], 4), ([4, 4], 2), ([2, 2], 2), ([2, 2], 1), ([1, 1], 1)],
    256: [([4], 4), ([4, 4], 2), ([2, 2], 2), ([2, 2], 2), ([2, 2], 1), ([1, 1], 1)],
}


def published_count(side: int, ngf: int, levels: int, channels: int) -> int:
    def conv(i, o, bias=True, taps=9):
        return taps * i * o + bias * o

    def norm(c):
        return 3 * c * max(levels, 1)

    def inner(c):  # in the cascades only NCSN normalizes
        return norm(c) if levels else 0

    total = conv(channels, ngf) + norm(ngf) + conv(ngf, channels)
    for i, o, kind in [block for first in LEVELS[side] for block in (first, (first[1], first[1], ""))]:
        i, o = i * ngf, o * ngf
        total += norm(i) + norm(i if kind else o) + conv(i, i if kind else o) + conv(i if kind else o, o)
        total += {"": 0, "down": conv(i, o, taps=1), "dilated": conv(i, o)}[kind]
    for n, (ins, o) in enumerate(CASCADES[side]):
        o, last = o * ngf, n == len(CASCADES[side]) - 1
        for i in (ngf * i for i in ins):
            total += 4 * (conv(i, i, bias=False) + inner(i))
            total += (conv(i, o) + inner(i)) * (len(ins) > 1)
        total += (2 + 2 * (3 if last else 1)) * (conv(o, o, bias=False) + inner(o))
    return total


# tsinghua-fib-lab/PIDLD, which loads the released weights of NCSNv2 on CIFAR-10, also counts 29694083
COUNTS = {
    "ncsn": (presets.ncsn, (64, 128, 10, 3), 30_117_635),
    "ncsn on MNIST": (partial(presets.ncsn, width=64), (64, 64, 10, 1), 7_638_657),
    "ncsnv2": (presets.ncsnv2, (64, 128, 0, 3), 29_694_083),
    "ncsnv2 at 128": (partial(presets.ncsnv2, 128), (128, 128, 0, 3), 83_445_379),
    "ncsnv2 at 256": (partial(presets.ncsnv2, 256), (256, 128, 0, 3), 94_132_611),
}


FAST = {"ncsn on MNIST", "ncsnv2"}  # one of each kind


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in COUNTS])
def test_parameter_counts(name):
    make, (side, ngf, levels, channels), count = COUNTS[name]
    x = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
    params = jax.eval_shape(make().init, jax.random.key(0), x, jnp.zeros(2))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count
    assert published_count(side, ngf, levels, channels) == count


def np_elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def np_norm(p, x, level):
    """Channel by channel and example by example, from the definition."""
    z = np.empty_like(x)
    for b in range(len(x)):
        row = level[b] if len(p["gamma"]) > 1 else 0
        gamma, alpha, beta = (p[name][row] for name in ("gamma", "alpha", "beta"))
        mu = np.array([x[b, :, :, k].sum() / x[b, :, :, k].size for k in range(x.shape[-1])])
        m = mu.sum() / len(mu)
        v = np.sqrt(((mu - m) ** 2).sum() / (len(mu) - 1) + 1e-5)
        for k in range(x.shape[-1]):
            s = np.sqrt(((x[b, :, :, k] - mu[k]) ** 2).sum() / x[b, :, :, k].size + 1e-5)
            z[b, :, :, k] = gamma[k] * ((x[b, :, :, k] - mu[k]) / s + alpha[k] * (mu[k] - m) / v) + beta[k]
    return z


def np_conv(p, x, dilation=1):
    w, (_, H, W, _) = p["kernel"], x.shape
    reach = dilation * (len(w) // 2)
    x = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    rows = [slice(dilation * i, dilation * i + H) for i in range(len(w))]
    columns = [slice(dilation * i, dilation * i + W) for i in range(len(w))]
    y = sum(x[:, r, c] @ w[i, j] for i, r in enumerate(rows) for j, c in enumerate(columns))
    return y + p.get("bias", 0)


def np_pool(x, largest):
    x = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=-np.inf if largest else 0)
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (1, 2))
    return windows.max((-2, -1)) if largest else windows.mean((-2, -1))


def np_resize(x, side):
    for axis in (1, 2):
        grid = np.linspace(0, x.shape[axis] - 1, side)
        x = np.apply_along_axis(lambda line, grid: np.interp(grid, np.arange(len(line)), line), axis, x, grid)
    return x


def np_halve(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


class Reference:
    """The forward pass of the authors' code, written from its layers on the parameters of ours."""

    def __init__(self, params, levels, dilations):
        self.params, self.levels, self.dilations = params["params"], levels, dilations

    def residual(self, p, x, level, dilation, first):
        h = np_conv(p["Conv_0"], np_elu(np_norm(p["InstanceNormPlus_0"], x, level)), dilation)
        h = np_conv(p["Conv_1"], np_elu(np_norm(p["InstanceNormPlus_1"], h, level)), dilation)
        if not first:
            return x + h
        skip = np_conv(p["Conv_2"], x, dilation)
        return skip + h if dilation > 1 else np_halve(skip) + np_halve(h)

    def inner_norm(self, p, n, x, level):
        return np_norm(p[f"InstanceNormPlus_{n}"], x, level) if self.levels else x

    def units(self, p, x, level, count):
        for i in range(count):
            h = x
            for j in (2 * i, 2 * i + 1):
                h = np_conv(p[f"Conv_{j}"], np_elu(self.inner_norm(p, j, h, level)))
            x = x + h
        return x

    def refine(self, p, maps, level, count):
        hs = [self.units(p[f"Units_{i}"], x, level, 2) for i, x in enumerate(maps)]
        x = hs[0]
        if len(hs) > 1:
            f = p["Fusion_0"]
            hs = [np_conv(f[f"Conv_{i}"], self.inner_norm(f, i, h, level)) for i, h in enumerate(hs)]
            x = sum(np_resize(h, maps[0].shape[1]) for h in hs)
        x = path = np_elu(x)
        for i in range(2):
            path = np_pool(self.inner_norm(p["ChainedPool_0"], i, path, level), not self.levels)
            path = np_conv(p["ChainedPool_0"][f"Conv_{i}"], path)
            x = x + path
        return self.units(p[f"Units_{len(maps)}"], x, level, count)

    def __call__(self, x, level):
        p, h, maps = self.params, np_conv(self.params["conv_in"], x), []
        for i, dilation in enumerate(self.dilations):
            h = self.residual(p[f"level{i}_block0"], h, level, dilation, i > 0)
            h = self.residual(p[f"level{i}_block1"], h, level, dilation, False)
            maps.append(h)
        h = self.refine(p["refine3"], [maps[3]], level, 1)
        h = self.refine(p["refine2"], [maps[2], h], level, 1)
        h = self.refine(p["refine1"], [maps[1], h], level, 1)
        h = self.refine(p["refine0"], [maps[0], h], level, 3)
        return np_conv(p["conv_out"], np_elu(np_norm(p["norm_out"], h, level)))


def draw_params(net, x):
    """Parameters of ordinary size, drawn without compiling the network's own initialisation."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, 0.0)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype) * p.shape[-1] ** -0.5 / 2, shapes)


@pytest.mark.parametrize("levels", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_the_network_against_the_published_layers(x64, levels):
    net = RefineNet(levels=levels, width=4, dtype=jnp.float64, param_dtype=jnp.float64)
    x, level = np.random.default_rng(1).normal(size=(2, 8, 8, 3)), np.array([2, 1])
    params = draw_params(net, x)
    expected = Reference(params, levels, net.dilations)(x, level)
    out = jax.jit(net.apply)(params, x, jnp.asarray(level))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())  # float32 at the end


def test_instance_norm_plus(x64):
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.normal(size=(3, 4, 5, 6))
    p = {name: rng.normal(size=(4, 6)) for name in ("gamma", "alpha", "beta")}
    level = np.array([3, 0, 3])
    many = InstanceNormPlus(4, jnp.float64, jnp.float64)
    np.testing.assert_allclose(many.apply({"params": p}, x, level), np_norm(p, x, level), rtol=1e-11, atol=1e-12)
    for b in range(3):  # each example has its own row: the one network of its level
        one = {name: table[level[b], None] for name, table in p.items()}
        alone = InstanceNormPlus(0, jnp.float64, jnp.float64).apply({"params": one}, x[b, None])
        np.testing.assert_allclose(many.apply({"params": p}, x, level)[b, None], alone, rtol=1e-12, atol=1e-12)
    outside = many.apply({"params": p}, x, np.array([4, 0, -1]))
    np.testing.assert_array_equal(np.isnan(outside).all((1, 2, 3)), [True, False, True])


@pytest.mark.parametrize("side", [2, 7])
def test_pools_and_their_gradients(x64, side):
    x, g = np.random.default_rng(0).normal(size=(2, 2, side, 6, 3))
    reference = {max_pool: nn.max_pool, avg_pool: nn.avg_pool}
    for ours, theirs in reference.items():
        theirs = partial(theirs, window_shape=(5, 5), padding=((2, 2), (2, 2)))
        value, pull = jax.jit(lambda x, ours=ours: jax.vjp(ours, x))(x)
        expected, pull_expected = jax.jit(lambda x, theirs=theirs: jax.vjp(theirs, x))(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(pull(g)[0], pull_expected(g)[0], rtol=1e-12, atol=1e-12)


def test_initial_parameters():
    """The weights are uniform within 1 / sqrt(fan_in), gamma and alpha N(1, 0.02^2), beta zero."""
    w = jax.jit(LINEAR(64).init)(jax.random.key(0), jnp.zeros((1, 3, 3, 32)))["params"]
    assert set(w) == {"kernel"}
    scaled = np.asarray(w["kernel"]) * math.sqrt(9 * 32)
    assert np.abs(scaled).max() <= 1
    # 18432 values of variance 1/3; the variance of u^2 is 1/5 - 1/9, and the bound 4 sigma
    assert abs((scaled**2).mean() - 1 / 3) < 4 * math.sqrt((1 / 5 - 1 / 9) / scaled.size)
    init = jax.jit(InstanceNormPlus(10).init)
    p = init(jax.random.key(1), jnp.zeros((1, 2, 2, 200)), jnp.zeros(1, int))["params"]
    for name in ("gamma", "alpha"):
        assert abs(float(p[name].mean()) - 1) < 4 * 0.02 / math.sqrt(2000)
        assert abs(float(p[name].std()) - 0.02) < 4 * 0.02 / math.sqrt(2 * 2000)
    assert not p["beta"].any()


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        pytest.param(presets.ncsnv2_small(width=4), (2, 28, 28, 1), id="ncsnv2_small"),
        pytest.param(presets.ncsn(width=4), (2, 32, 32, 3), id="ncsn", marks=pytest.mark.slow),
    ],
)
def test_images_of_both_sizes(net, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    params, apply = draw_params(net, x), jax.jit(net.apply)
    out = apply(params, x, jnp.array([0.0, 9.0]))
    assert out.shape == shape and out.dtype == jnp.float32 and bool(jnp.isfinite(out).all())
    same = apply(params, x, jnp.array([0.0, 3.0]))
    np.testing.assert_allclose(same[0], out[0], rtol=1e-5)
    if net.levels:
        assert not np.allclose(same[1], out[1], rtol=0.01)  # another row
        assert jnp.isnan(apply(params, x, jnp.array([0.0, 10.0]))[1]).all()  # no such level
    else:
        np.testing.assert_array_equal(same, out)  # the network uses no level
    low = jax.eval_shape(net.clone(dtype=jnp.bfloat16).apply, params, x, 0.0)
    assert (low.shape, low.dtype) == (shape, jnp.float32)


@pytest.mark.slow
def test_as_a_denoiser_of_ve():
    """x_0 = x + sigma^2 score, the score being F at the level's index, or F / sigma where there are no levels."""
    sde, t = dj.VE(0.01, 1.0), jnp.array([1.0, 0.32])  # of four levels: 0 and 2.04, hence 2
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    sigma = sde.sigma(t)[:, None, None, None]
    for levels, power in ((4, 2), (0, 1)):
        net = RefineNet(levels, width=4, multipliers=(1,), dilations=(1,))
        params = draw_params(net, x)
        apply = partial(jax.jit(net.apply), params)
        how = dict(c_noise=precondition.level(4), scaled=False) if levels else {}
        denoised = precondition.from_score(sde, apply, **how)(x, t)
        np.testing.assert_allclose(denoised, x + sigma**power * apply(x, jnp.array([0, 2])), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "shape", "c_noise", "cond", "message"),
    [
        ({}, (2, 8, 8), 0.0, None, r"\[B, H, W, C\]"),
        ({}, (2, 7, 8, 1), 0.0, None, "divisible by 2"),
        ({"patch": 2}, (2, 8, 6, 1), 0.0, None, "divisible by 4"),
        ({"levels": 3}, (2, 8, 8, 1), np.zeros(3), None, "one per example"),
        ({}, (2, 8, 8, 1), 0.0, {"label": 1}, "has no classes"),
        ({}, (2, 8, 8, 1), 0.0, {"lable": 1}, "takes the condition entries"),
        ({"dilations": (1, 1)}, (2, 8, 8, 1), 0.0, None, "each level needs a dilation"),
        ({"width": 1}, (2, 8, 8, 1), 0.0, None, "two or more"),
    ],
)
def test_bad_input(change, shape, c_noise, cond, message):
    with pytest.raises(ValueError, match=message):
        net = RefineNet(**{"width": 4, **change})
        jax.eval_shape(lambda x: net.init(jax.random.key(0), x, c_noise, cond), jnp.zeros(shape))


def test_no_published_network_above_256_pixels():
    with pytest.raises(ValueError, match="up to 256"):
        presets.ncsnv2(512)
