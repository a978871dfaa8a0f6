"""Guides at their limits, flat estimates and alpha = 0, and what cannot be meant: scales, conditions, processes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, guidance, operators, precondition
from diffjax.conditions import Shared

VP, FLOW = dj.VP(), dj.Flow()
X, COND = jnp.linspace(-1, 2, 24).reshape(4, 3, 2), {"label": jnp.array([0, 1, 2, 1])}


def toy(gain, x, t, cond=None):
    return gain * x + (0 if cond is None else jnp.asarray(cond["label"]).reshape(-1, 1, 1))


def blind(x, c, cond=None):
    return x


DENOISE = Partial(toy, 0.7)
OF_VP, OF_FLOW = precondition.from_v(VP, blind), precondition.from_velocity(FLOW, blind)
MEASUREMENT = operators.Measurement(operators.Mask(jnp.ones((3, 2))), X, 0.1)


@pytest.mark.parametrize("value", [0.8, 0.1, -3e4, 1e-20])
def test_a_flat_estimate_is_not_rescaled(value):
    """The spread of 0 times any factor is 0: the estimate stays, as it does where its spread is rounding."""

    def flat(x, t, cond=None):
        return jnp.full_like(x, value) if cond is None else jnp.broadcast_to(value + 1e-9 * x.mean(), x.shape)

    def guided(x, rescale=0.7):
        return guidance.cfg(flat, 3.0, rescale=rescale)(x, 0.5, {"label": 1})

    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    out, plain, slope = jax.jit(lambda x: (guided(x), guided(x, None), jax.grad(lambda x: guided(x).sum())(x)))(x)
    np.testing.assert_allclose(out, plain, rtol=1e-6)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_rescaling_near_the_limit_is_the_papers(spread):
    noise = np.random.default_rng(0).normal(size=(3, 6, 2))
    end, other = 0.3 + spread * noise, 0.3 + 2 * spread * noise[::-1]
    expected = other * (0.7 * (end.std((1, 2)) / other.std((1, 2)))[:, None, None] + 0.3)

    def denoise(x, t, cond=None):  # guided with scale 2: 2 end - start
        return jnp.asarray(2 * end - other if cond is None else end, jnp.float32)

    got = guidance.cfg(denoise, 2.0, rescale=0.7)(jnp.zeros(noise.shape), 0.5, COND)
    np.testing.assert_allclose(
        got, expected, rtol=1e-6 / spread
    )  # float32 has digits of the spread up to 1e-7 / spread


def guides(denoise, sde):
    loss = operators.Misfit(operators.Measurement(MEASUREMENT.operator, MEASUREMENT.y + 1, 0.1))
    return {
        "classifier": guidance.classifier(denoise, sde, lambda x, t, cond: -(x**2).sum((1, 2))),
        "reconstruction": guidance.reconstruction(denoise, sde, loss),
        "pigdm": guidance.pigdm(denoise, sde, MEASUREMENT),
        "proximal": guidance.corrected(denoise, corrections.Proximal(MEASUREMENT, sde)),
    }


@jax.jit
def evaluate(guide, t):
    return guide(X, t), jax.grad(lambda x: guide(x, t).sum())(X)


@pytest.mark.parametrize("name", list(guides(OF_FLOW, FLOW)))
def test_where_alpha_is_0_every_guide_is_finite(name):
    guide, plain = guides(OF_FLOW, FLOW)[name], OF_FLOW(X, 1.0)
    out, slope = evaluate(guide, jnp.array([1.0, 1.0, 0.5, 1.0]))
    expected = X if name == "proximal" else plain  # y is X itself, and nothing else is known of x_0
    np.testing.assert_allclose(out[:2], expected[:2], atol=1e-5)
    assert jnp.isfinite(out).all() and jnp.isfinite(slope).all()


@pytest.mark.parametrize("t", [0.0, 1e-6])
@pytest.mark.parametrize("name", list(guides(OF_VP, VP)))
def test_where_sigma_is_0_every_guide_is_the_denoiser(name, t):
    out, slope = evaluate(guides(OF_VP, VP)[name], jnp.full(4, t))
    np.testing.assert_allclose(out, OF_VP(X, t), atol=1e-2)
    assert jnp.isfinite(slope).all()


def cfg(*args, **kwargs):
    return guidance.cfg(DENOISE, *args, **kwargs)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: cfg("7.5"), TypeError, "guidance scale must be a number, got '7.5'"),
        (lambda: cfg(np.nan), ValueError, "guidance scale must be a finite number"),
        (lambda: cfg([1.0, np.inf]), ValueError, "guidance scale must be a finite"),
        (lambda: cfg(2.0, rescale=5.0), ValueError, r"rescale must be a finite number in \[0, 1\], got 5"),
        (lambda: guidance.compose(DENOISE, COND, [1.0]), TypeError, "a list of conditions, got dict"),
        (lambda: guidance.compose(DENOISE, [COND], 1.0), ValueError, "one scale for each condition, got 1 and 1.0"),
        (lambda: guidance.compose(DENOISE, [COND], ["1"]), TypeError, "a guidance scale must be"),
        (lambda: guidance.autoguidance(DENOISE, DENOISE, 2.0), ValueError, "the same object"),
        (lambda: guidance.autoguidance(OF_VP, OF_FLOW, 2.0), ValueError, "made for .*Flow"),
        (lambda: guidance.interval(OF_VP, OF_FLOW, 0.2, 0.8), ValueError, "made for .*Flow"),
        (lambda: guidance.interval(DENOISE, DENOISE, 0.8, 0.2), ValueError, "from low = 0.8 to high = 0.2 is empty"),
        (lambda: guidance.interval(DENOISE, DENOISE, 0.8, "1"), TypeError, "high must be a number, got '1'"),
        (lambda: guidance.interval(DENOISE, DENOISE, np.nan, 1.0), ValueError, "low = nan"),
        (lambda: guidance.corrected(DENOISE, "clip"), TypeError, "expected a function, got str"),
        (lambda: guidance.corrected(DENOISE, corrections.Clip), TypeError, r"did you mean Clip\(\)\?"),
        (lambda: guidance.corrected(DENOISE, lambda x: x), ValueError, "a correction to be called with"),
        (lambda: guidance.corrected(OF_FLOW, corrections.Proximal(MEASUREMENT, VP)), ValueError, "made for .*Flow"),
        (lambda: guidance.classifier(OF_FLOW, VP, lambda x, t, c: x), ValueError, "made for .*Flow"),
        (lambda: guidance.classifier(DENOISE, VP, lambda x, t: x), ValueError, "classifier's log_prob to be called"),
        (lambda: guidance.classifier(DENOISE, dj.VP, lambda x, t, c: x), TypeError, r"did you mean VP\(\)\?"),
        (lambda: guidance.reconstruction(OF_FLOW, VP, lambda x, c: x), ValueError, "made for .*Flow"),
        (lambda: guidance.reconstruction(DENOISE, VP, lambda x: x), ValueError, "a guiding loss to be called with"),
        (lambda: guidance.pigdm(OF_FLOW, VP, MEASUREMENT), ValueError, "made for .*Flow"),
        (lambda: guidance.pigdm(DENOISE, VP, MEASUREMENT.operator), TypeError, "PiGDM to get a measurement"),
        (lambda: guidance.pigdm(DENOISE, VP, MEASUREMENT, -1.0), ValueError, "r must be"),
        (lambda: guidance.label_log_prob(lambda x: x), ValueError, "logits to be called with"),
    ],
)
def test_a_guide_that_cannot_be_meant_is_not_made(make, error, match):
    with pytest.raises(error, match=match):
        make()


def needs_label(x, t, cond=None):
    if cond is None:
        raise ValueError("conditioned on a label")
    return x + cond["label"][:, None, None]


LOGITS = guidance.classifier(DENOISE, VP, guidance.label_log_prob(lambda x, t: x.reshape(len(x), -1)[:, :3]))


@pytest.mark.parametrize(
    ("guide", "cond", "match"),
    [
        (cfg(2.0), None, "guidance needs a condition"),
        (cfg(2.0, batched=True), None, "guidance needs a condition"),
        (cfg(2.0, {}), {}, "guidance needs a condition"),
        (guidance.cfg_of_scale(DENOISE), {"scale": 2.0}, "guidance needs a condition"),
        (guidance.compose(DENOISE, [COND, None], [1.0, 1.0]), None, "guidance needs a condition"),
        (guidance.cfg(needs_label, 2.0), COND, "without a condition.*model.null"),
        (DENOISE, {"text": jnp.array([0.0, 1.0, jnp.nan, 0.0])}, r"\['text'\] holds NaN"),
        (cfg(2.0, 3), COND, "of another kind"),
        (cfg(2.0, {"label": jnp.zeros(3, int)}), COND, r"\['label'\] has shape \(3,\) for 4 examples"),
        (cfg(jnp.ones(3)), COND, r"values of shape \(3,\) do not fit x \(4, 3, 2\)"),
        (cfg(2.0, {"label": jnp.zeros((4, 2), int)}, batched=True), COND, "entries of one shape"),
        (guidance.cfg(lambda x, t, cond=None: x, 2.0), COND, "the denoiser ignores its condition"),
        (guidance.cfg(OF_VP, 2.0), COND, "the denoiser ignores its condition"),
        (guidance.compose(OF_VP, [COND], [2.0]), None, "the denoiser ignores its condition"),
        (LOGITS, {"label": jnp.array([0, 1, 2, 3])}, r"labels of 3 classes lie in 0 ... 2, got \[0 1 2 3\]"),
        (LOGITS, {"label": -1}, "labels of 3 classes"),
        (LOGITS, {"label": jnp.zeros(3, int)}, "3,.* for 4 examples"),
        (LOGITS, {"label": jnp.ones(4)}, "labels are integers"),
        (LOGITS, {"text": 1}, 'needs cond = {"label"'),
    ],
)
def test_a_condition_that_cannot_guide_raises(guide, cond, match):
    ts = dj.times.uniform(VP, 2)
    with pytest.raises(ValueError, match=match):
        dj.sample(jax.random.key(0), guide, VP, dj.DDIM(), ts, X, cond)


def test_a_text_is_no_condition(key):
    ts = dj.times.uniform(VP, 2)
    for cond in ("a fox", {"context": ["a fox"] * 4}):
        with pytest.raises(TypeError, match="is the text 'a fox': give arrays"):
            dj.sample(key, DENOISE, VP, dj.DDIM(), ts, jnp.zeros((4, 3, 2)), cond)


def test_what_can_be_meant_passes():
    """A condition that acts by its structure alone, negative guidance of no condition, lists, attention control."""
    by_structure = Partial(lambda x, t, cond=None: x * (1.0 if cond is None else 2.0))
    shared = Shared(jnp.ones(7))
    with_shared = Partial(lambda x, t, cond=None: x if cond is None else x * cond["attend"].value.sum())
    run = jax.jit(lambda guide, x, cond: guide(x, 0.5, cond))
    np.testing.assert_allclose(run(guidance.cfg(by_structure, 3.0), X, COND), 4 * X, rtol=1e-6)
    np.testing.assert_allclose(
        run(guidance.cfg(DENOISE, 2.0, COND), X, None), 2 * DENOISE(X, 0.5) - DENOISE(X, 0.5, COND), rtol=1e-5
    )
    np.testing.assert_allclose(run(guidance.cfg(with_shared, 2.0), X, {"attend": shared}), 13 * X, rtol=1e-6)
    one = DENOISE(X, 0.5, COND)
    for scale in ([1.0] * 4, np.ones(4), np.float64(1), jnp.ones((4, 1)), 1):
        np.testing.assert_allclose(cfg(scale)(X, 0.5, COND), one, rtol=1e-6)
    batched = cfg(2.0, {"label": 3}, batched=True)(X, 0.5, {"label": jnp.asarray(1)})  # one label for all
    np.testing.assert_allclose(batched, 2 * DENOISE(X, 0.5, {"label": 1}) - DENOISE(X, 0.5, {"label": 3}), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_corrections_and_guides_keep_the_dtype_of_x_with_float64_on(dtype, x64):
    x, scale = X.astype(dtype), np.float64(0.5)
    m = operators.Measurement(operators.matrix(np.eye(6)[:4], (3, 2)), jnp.zeros((4, 4)), 0.1)
    plain = Partial(lambda x, t, cond=None: x if cond is None else (2 * x).astype(x.dtype))
    for correct in (
        corrections.Project(m), corrections.Proximal(m, VP), corrections.Gradient(operators.Misfit(m), scale),
        corrections.Clip(-scale), corrections.DynamicThreshold(scale),
        guidance.cfg(plain, scale, rescale=0.5), guidance.compose(plain, [COND], [scale]),
        guidance.autoguidance(plain, Partial(lambda x, t, cond=None: x / 2), scale),
        guidance.pigdm(plain, VP, m), guidance.pigdm_exact(plain, VP, m),
        guidance.reconstruction(plain, VP, operators.Misfit(m), scale),
        guidance.classifier(plain, VP, lambda x, t, cond: x.sum((1, 2)), scale),
    ):  # fmt: skip
        assert jax.eval_shape(correct, x, 0.5, COND).dtype == dtype, correct
