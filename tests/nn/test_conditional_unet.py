"""The text-conditioned U-Net: what it takes and refuses, its attention sites, types. Its numbers: tests/pretrained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import ConditionalUNet, init, presets
from diffjax.nn.attention import plain
from diffjax.parameters import unflatten
from diffjax.pretrained.stable_diffusion.layout import example, parameter_shapes

SMALL = ConditionalUNet(channels=(8, 16), layers=1, attention=(True, False), heads=2, context_width=6, groups=4)


def shaped(x):
    return jnp.zeros((2, *x.shape[1:]), x.dtype)


def arguments(net, **changes):
    x, t, cond = jax.tree.map(shaped, example(net))
    return x, t, {k: v for k, v in (cond | changes).items() if v is not None}


def refused(net, error, message, x=None, t=None, **changes):
    own, time, cond = arguments(net, **changes)
    x, t = own if x is None else x, time if t is None else t
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda key: net.init(key, x, t, cond), jax.random.key(0))


def test_conditions_that_do_not_fit_are_refused():
    refused(SMALL, ValueError, r'on "context" \[2, any, 6\], but cond has \[\]', context=None)
    refused(SMALL, ValueError, r'"context"\] .* \[2, any, 6\], got \[2, 3, 5\]', context=jnp.zeros((2, 3, 5)))
    padded = SMALL.clone(context_length=4)
    refused(padded, ValueError, r'"context"\] .* \[2, 4, 6\], got \[2, 3, 6\]', context=jnp.zeros((2, 3, 6)))
    refused(
        SMALL,
        ValueError,
        r"\['attend', 'concat', 'context', 'control'\], got \['text'\] besides",
        text=jnp.zeros((2, 3)),
    )
    refused(SMALL, ValueError, 'has a "label" but this ConditionalUNet has no classes', label=jnp.zeros(2, int))
    refused(SMALL, ValueError, "in_channels = 4, but x has 3 and cond.* is absent", x=jnp.zeros((2, 8, 8, 3)))
    more = jnp.zeros((2, 8, 8, 5))
    refused(SMALL, ValueError, r'in_channels = 4, but x has 4 and cond\["concat"\] 5', concat=more)
    refused(SMALL, ValueError, r"\[2, 8, 8, any\], got \[2, 4, 4, 5\]", concat=more[:, :4, :4])
    refused(SMALL, ValueError, "float images", x=jnp.zeros((2, 8, 8)))
    refused(SMALL, ValueError, "takes one noise level", t=(jnp.zeros(2), jnp.zeros(2)))
    refused(SMALL, TypeError, "is an `Attend`", attend=3)
    xl = SMALL.clone(pooled_width=5, size_count=6, size_width=4)
    refused(xl, ValueError, r'on "pooled" \[2, 5\], but cond has \[.context., .sizes.\]', pooled=None)
    refused(xl, ValueError, r'"sizes"\] .* \[2, 6\], got \[2, 5\]', sizes=jnp.zeros((2, 5)))
    refused(SMALL.clone(guidance_width=4), ValueError, 'cond must have a "scale"', scale=None)
    upscaler = SMALL.clone(num_classes=3)
    refused(upscaler, ValueError, 'has 3 classes: cond must have a "label"', label=None)
    refused(upscaler, ValueError, "labels go from 0 to 2, got 3 to 3", label=np.array([3, 3]))


def test_fields_that_do_not_fit_are_refused():
    for changes, message in (
        (dict(heads=(1, 2, 3)), "heads has a value for each of 2 levels"), (dict(channels=()), "one level or more"),
        (dict(attention=(True,)), "attention has a value for each of 2"), (dict(layers=0), "layers must be at least 1"),
        (dict(num_classes=-1), "num_classes must be"), (dict(dropout=1.5), "dropout must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            SMALL.clone(**changes)


def sites(net):
    seen = []

    def attend(site, q, k, v):
        seen.append(site)
        return plain(site, q, k, v)

    x, t, cond = example(net)
    x = jax.ShapeDtypeStruct((1, 64, 64, net.in_channels), jnp.float32)
    jax.eval_shape(lambda x, t, cond: net.init(jax.random.key(0), x, t, cond | {"attend": attend}), x, t, cond)
    return seen


@pytest.mark.parametrize(("net", "count", "heights"), [
    (presets.sd1(), 16, {64: 5, 32: 5, 16: 5, 8: 1}),
    pytest.param(presets.sdxl(), 70, {32: 10, 16: 60}, marks=pytest.mark.slow),
])  # fmt: skip
def test_attention_sites_at_full_size(net, count, heights):
    """At half of SDXL's size, 64 x 64 latents."""
    seen = sites(net)
    for cross in (True, False):
        of = [site for site in seen if site.is_cross is cross]
        assert len(of) == count
        assert {h: sum(s.height == s.width == h for s in of) for h in heights} == heights
    assert seen[0].path == ("down0_attention0" if net.attention[0] else "down1_attention0", "block0", "self")


def drawn(net, seed=0):
    """Parameters of no particular distribution, without compiling `init`."""
    rng, flat = np.random.default_rng(seed), {}
    for name, x in parameter_shapes(net).items():
        values = rng.normal(size=x.shape) * max(x.size / x.shape[-1], 4) ** -0.5
        flat[name] = jnp.asarray(values + name.endswith("scale"), jnp.float32)
    return {"params": unflatten(flat)}


@pytest.fixture(scope="module")
def small():
    x, context = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(2, 8, 8, 4), (2, 3, 6)]))
    return drawn(SMALL), x, jnp.array([981.0, 1.5]), {"context": context}


def test_a_new_network_returns_almost_zero(key):
    net = SMALL.clone(channels=(4,), attention=(False,))
    batch = {"image": jnp.ones((2, 4, 4, 4)), "context": jnp.ones((2, 3, 6)), "unused": jnp.ones(2)}
    F = jax.jit(net.apply)(init(net, key, batch), batch["image"], jnp.ones(2), {"context": batch["context"]})
    assert F.shape == (2, 4, 4, 4) and 0 < jnp.abs(F).max() < 1e-3


@pytest.mark.slow
def test_bfloat16_is_close_and_a_level_may_be_shared(small):
    params, x, t, cond = small
    F = jax.jit(SMALL.apply)(params, x, t, cond)
    low = jax.jit(SMALL.clone(dtype=jnp.bfloat16).apply)(params, x, t, cond)
    assert F.dtype == low.dtype == jnp.float32 and F.shape == x.shape
    assert jnp.linalg.norm(low - F) / jnp.linalg.norm(F) < 2e-2
    alike = jax.jit(SMALL.apply)(params, x, t[0], cond)
    np.testing.assert_allclose(alike[0], F[0], atol=1e-5)
    assert jnp.abs(alike[1] - F[1]).max() > 1e-4


@pytest.mark.slow
def test_x_and_concat_are_joined_and_every_input_matters(small):
    params, x, t, cond = small
    apply = jax.jit(SMALL.apply)
    F = apply(params, x, t, cond)
    joined = apply(params, x[..., :3], t, cond | {"concat": x[..., 3:]})
    np.testing.assert_array_equal(joined, F)
    for other in (apply(params, x, t + 0.5, cond), apply(params, x, t, {"context": -cond["context"]})):
        assert (jnp.abs(other - F).max((1, 2, 3)) > 1e-4).all()


def test_labels_are_looked_up_and_out_of_range_nan():
    net = SMALL.clone(num_classes=3)
    x, t, cond = arguments(net)
    x += 1
    F = jax.jit(net.apply)(drawn(net), x, t, cond | {"label": jnp.array([2, 3])})
    assert jnp.isfinite(F[0]).all() and jnp.isnan(F[1]).any()
    assert "classes/embedding" in parameter_shapes(net)


def test_only_cross_attention_has_no_self_attention():
    net = SMALL.clone(only_cross=(True, False))
    assert [s.is_cross for s in sites(net)] == [True, True, False, True] + [True] * 4  # down, middle, two on the way up
    assert parameter_shapes(net)["down0_attention0/block0/self/key/kernel"].shape == (6, 8)
    everywhere = SMALL.clone(only_cross=True)
    assert all(s.is_cross for s in sites(everywhere))
