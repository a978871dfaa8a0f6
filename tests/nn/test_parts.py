"""The parts that networks share, against their formulas in float64: norms, attention, blocks, sinusoids, resizing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from diffjax.nn import attention, embed, resample
from diffjax.nn.norm import GroupNorm, LayerNorm
from diffjax.nn.transformer import FeedForward, TransformerBlock, geglu, gelu, quick_gelu

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 5, 3, 12), 4), ((1, 1, 1, 6), 3), ((3, 7, 8), 2), ((2, 4, 4, 20), None)]
)
def test_group_norm(x64, shape, groups):
    x = 3 + 2 * RNG.normal(size=shape)
    found = GroupNorm(groups, 1e-3, jnp.float64, jnp.float64).apply(
        {"params": {"scale": jnp.arange(1.0, shape[-1] + 1), "bias": jnp.arange(shape[-1]) / 7}}, x
    )
    g = groups or max(g for g in range(1, min(shape[-1] // 4, 32) + 1) if shape[-1] % g == 0)
    grouped = x.reshape(shape[0], -1, g, shape[-1] // g)
    mean, var = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((grouped - mean) / np.sqrt(var + 1e-3)).reshape(shape) * np.arange(1, shape[-1] + 1)
    np.testing.assert_allclose(found, expected + np.arange(shape[-1]) / 7, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mean", [0.0, 10.0, 100.0, 1000.0])
def test_a_large_mean_costs_the_norms_few_digits(mean):
    """float32 of x itself has the error mean * 6e-8; the one-pass variance was off by 5e-3 at a mean of 100."""
    x = (mean + RNG.normal(size=(2, 64, 16))).astype(np.float32)
    exact, params = x.astype(np.float64), {"params": {"scale": jnp.ones(16), "bias": jnp.zeros(16)}}

    def normal(x, axes):
        x = x - x.mean(axes, keepdims=True)
        return x / np.sqrt((x * x).mean(axes, keepdims=True) + 1e-6)

    grouped = normal(exact.reshape(2, 64, 4, 4), (1, 3)).reshape(x.shape)
    for norm, expected in ((GroupNorm(4), grouped), (LayerNorm(1e-6), normal(exact, (2,)))):
        assert np.abs(norm.apply(params, x) - expected).max() < 2e-6 + 4e-7 * mean


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="12 channels cannot be divided into 5 groups"):
        GroupNorm(5).init(jax.random.key(0), jnp.zeros((1, 2, 2, 12)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_attention_and_its_masks(x64, dtype):
    q, k, v = (RNG.normal(size=(2, n, 3, 4)) for n in (5, 5, 5))
    mask = np.arange(5) < np.array([[3], [5]])
    logits = np.einsum("bnhd,bmhd->bhnm", q, k) / 2
    rows = {
        attention.plain: np.ones((5, 5), bool),
        attention.causal: np.tril(np.ones((5, 5), bool)),
        attention.Masked(jnp.asarray(mask)): mask[:, None, None],
    }
    for attend, seen in rows.items():
        expected = np.einsum("bhnm,bmhd->bnhd", softmax(np.where(seen, logits, -np.inf)), v)
        found = attend(None, *(jnp.asarray(a, dtype) for a in (q, k, v)))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=1e-12 if dtype == jnp.float64 else 2e-6)


@pytest.mark.parametrize("n", [9, 12])
@pytest.mark.slow
def test_many_queries_are_taken_in_parts(monkeypatch, n):
    q, k, v = (jnp.asarray(RNG.normal(size=(2, m, 3, 4)).astype(np.float32)) for m in (n, 5, 5))
    mask = jnp.asarray(np.arange(5) < np.array([[3], [5]]))[:, None, None]
    value = jax.value_and_grad(lambda q, k, v, mask: jnp.sin(attention.attention(q, k, v, mask)).sum(), (0, 1, 2))
    for given in (None, mask):
        whole = value(q, k, v, given)
        monkeypatch.setattr(attention, "QUERIES", 4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), value(q, k, v, given), whole)
        monkeypatch.undo()


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def heads(p, x, y, n):
    q, k, v = (dense(p[name], z).reshape(*z.shape[:2], n, -1) for name, z in (("query", x), ("key", y), ("value", y)))
    weights = softmax(np.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(q.shape[-1]))
    return dense(p["out"], np.einsum("bhnm,bmhd->bnhd", weights, v).reshape(x.shape))


@pytest.mark.parametrize(("where", "cross", "activation"), [
    ("before", True, "geglu"), ("before", False, "quick_gelu"), ("after", False, "gelu"), ("after", True, "gelu"),
])  # fmt: skip
def test_a_transformer_block_is_its_formula(x64, where, cross, activation):
    types = dict(dtype=jnp.float64, param_dtype=jnp.float64)
    block = TransformerBlock(2, cross, not cross, activation, 10, where, **types)
    x, context = RNG.normal(size=(2, 7, 6)), RNG.normal(size=(2, 3, 5))
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, context)["params"]
    p = jax.tree.map(lambda s: RNG.normal(size=s.shape), shapes)
    assert ("bias" in p["self"]["query"]) is (not cross) and p["feed"]["out"]["kernel"].shape == (10, 6)

    def feed(h):
        h = dense(p["feed"]["wide"], h)
        exact = lambda a: a * (1 + erf(a / np.sqrt(2))) / 2  # noqa: E731
        halves = lambda a: a[..., :10] * exact(a[..., 10:])  # noqa: E731
        quick = lambda a: a / (1 + np.exp(-1.702 * a))  # noqa: E731
        return dense(p["feed"]["out"], {"geglu": halves, "gelu": exact, "quick_gelu": quick}[activation](h))

    parts = [
        lambda h: heads(p["self"], h, h, 2),
        *([lambda h: heads(p["cross"], h, context, 2)] if cross else []),
        feed,
    ]
    expected = x
    for i, part in enumerate(parts):
        of = p[f"norm{i}"]
        expected = expected + part(norm(of, expected)) if where == "before" else norm(of, expected + part(expected))
    np.testing.assert_allclose(block.apply({"params": p}, x, context), expected, rtol=1e-10, atol=1e-10)


def test_every_attention_of_a_block_is_an_attend_s_and_its_site_says_where(key):
    seen = []

    def attend(site, q, k, v):
        seen.append(site)
        return attention.plain(site, q, k, v)

    block, x, context = TransformerBlock(2, cross=True), jnp.ones((1, 6, 4)), jnp.ones((1, 3, 4))
    block.init(key, x, context, attend, (2, 3))
    assert [(s.path, s.height, s.width, s.is_cross) for s in seen] == [
        (("self",), 2, 3, False),
        (("cross",), 2, 3, True),
    ]
    with pytest.raises(ValueError, match="must return the shape of q"):
        block.init(key, x, context, lambda site, q, k, v: q[:1, :2])
    with pytest.raises(ValueError, match="cannot be split into 3 heads"):
        TransformerBlock(3).init(key, x)
    with pytest.raises(ValueError, match="the activation is one of gelu, quick_gelu, geglu"):
        FeedForward("relu").init(key, x)  # pyright: ignore[reportArgumentType]


def test_activations(x64):
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(gelu(x), x * (1 + erf(x / np.sqrt(2))) / 2, atol=1e-14)
    np.testing.assert_allclose(quick_gelu(x), x / (1 + np.exp(-1.702 * x)), atol=1e-14)
    np.testing.assert_allclose(geglu(np.stack([x, x[::-1]], -1)), (x * gelu(x[::-1]))[:, None], atol=1e-14)


def test_sinusoids_are_stable_diffusion_s():
    """Numbers of diffusers' embedding at t = 981 and width 320, and of the size ids of SDXL at 1024 and width 256."""
    known = {
        (320, 981.0): {
            0: 0.67995721,
            1: -0.79842919,
            159: 0.99460590,
            160: 0.73325181,
            161: 0.60208869,
            319: 0.10372588,
        },
        (256, 1024.0): {
            0: 0.98735362,
            1: -0.53761721,
            127: 0.99395174,
            128: -0.15853338,
            129: -0.84318900,
            255: 0.10981788,
        },
    }
    for (dim, t), entries in known.items():
        found = embed.Sinusoidal(dim, shift=0, cosines_first=True)(jnp.array([t, 0.0]))
        np.testing.assert_allclose(found[0, np.array(list(entries))], list(entries.values()), atol=2e-5)
        np.testing.assert_array_equal(found[1], np.repeat([1.0, 0.0], dim // 2))
    guidance = embed.Sinusoidal(256)(jnp.array([6.5e3]))[0]  # LCM's, of 1000 (7.5 - 1): ours without changes
    expected = {0: -0.04478474, 1: 0.76286107, 127: 0.60518634, 128: -0.99899668, 129: 0.64656246, 255: 0.79608387}
    np.testing.assert_allclose(guidance[np.array(list(expected))], list(expected.values()), atol=5e-4)


def test_time_steps_keep_their_digits_whatever_the_network_s_type():
    t = embed.per_example(jnp.arange(1000), 1000)
    assert t.dtype == jnp.float32 and len(np.unique(np.asarray(embed.Sinusoidal(8)(t)), axis=0)) == 1000


@pytest.mark.parametrize(
    ("n", "m", "rows"), [(3, 5, [0, 0, 1, 1, 2]), (16, 2, [0, 8]), (4, 8, [0, 0, 1, 1, 2, 2, 3, 3]), (5, 5, range(5))]
)
def test_nearest_takes_pytorch_s_pixels(n, m, rows):
    x = np.arange(n * n, dtype=np.float32).reshape(1, n, n, 1)
    np.testing.assert_array_equal(resample.nearest(jnp.asarray(x), (m, m)), x[:, list(rows)][:, :, list(rows)])
