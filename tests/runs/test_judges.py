"""Judging a model, on digits and with denoisers that cost nothing."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import metrics, samplers, times
from diffjax.data import batches, load
from diffjax.losses import DSM, weightings
from diffjax.runs import judges


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_image_i_is_the_same_for_every_number_and_batch_size(key):
    sde = dj.VP()
    denoise, ts = lambda x, t, cond: jnp.tanh(x), times.uniform(sde, 3)
    draw = lambda n, size: samplers.generate(key, denoise, sde, dj.DDIM(1.0), ts, (n, 4, 4, 1), size)  # noqa: E731
    many = draw(7, 3)
    assert many.shape == (7, 4, 4, 1)
    np.testing.assert_allclose(draw(2, 128), many[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_reflow_straightens_a_gaussian(x64, key):
    """N(m, C)'s flow ends at m + C^1/2 eps; its reflow is x_0 = m + C^1/2 ((1 - t) C^1/2 + t)^-1 (x - (1 - t) m)."""
    sde, m, root = dj.Flow(), jnp.array([1.0, -0.5]), jnp.array([[0.7, 0.2], [0.2, 0.3]])
    gaussian = dj.GaussianMixture(jnp.ones(1), m[None], (root @ root)[None])
    ts = times.uniform(sde, 128)
    pairs = samplers.reflow_pairs(key, gaussian.denoiser(sde), sde, dj.Heun(), ts, (50, 2), batch_size=20)
    np.testing.assert_array_equal(
        pairs["image"], samplers.generate(key, gaussian.denoiser(sde), sde, dj.Heun(), ts, (50, 2))
    )
    np.testing.assert_allclose(pairs["image"], m + pairs["noise"] @ root, atol=1e-3)

    def reflowed(x, t, cond=None):
        a, s = dj.gaussian.curves(sde, t, x)
        mix = a[..., None] * root + s[..., None] * jnp.eye(2)
        return m + jnp.linalg.solve(mix, (x - a * m)[..., None])[..., 0] @ root

    paths = {
        name: dj.sample(key, denoise, sde, dj.Heun(), ts, jnp.asarray(pairs["noise"]), trajectory=True)
        for name, denoise in (("flow", gaussian.denoiser(sde)), ("reflow", reflowed))
    }
    np.testing.assert_allclose(paths["reflow"][-1], m + pairs["noise"] @ root, atol=1e-12)  # the same ends
    assert (
        metrics.straightness(ts, paths["reflow"]).max() < 1e-20 < 0.05 < metrics.straightness(ts, paths["flow"]).mean()
    )
    one = dj.sample(key, reflowed, sde, dj.Euler(), times.uniform(sde, 1), jnp.asarray(pairs["noise"]))
    np.testing.assert_allclose(one, paths["reflow"][-1], atol=1e-12)
    # the loss: (pi / 2) mean(s) at best on independent noise, none on the pairs
    loss = jax.jit(DSM(sde, times.Uniform(), lambda *args, **kwargs: args[1], lambda *_: reflowed, weightings.velocity))
    assert loss({}, key, pairs)[0].max() < 1e-5
    eigenvalues = np.linalg.eigvalsh(root)
    assert loss({}, key, {"image": pairs["image"]})[0].mean() > np.pi / 2 * eigenvalues.mean() / 2


def test_the_noise_of_a_pair_has_unit_variance(key):
    sde = dj.EDM()
    pairs = samplers.reflow_pairs(key, lambda x, t, cond: 0 * x, sde, dj.DDIM(), times.karras(sde, 2), (500, 4))
    assert abs(pairs["noise"].std() - 1) < 4 / np.sqrt(4000) and not pairs["image"].any()


def test_real_images_are_at_the_floor_and_noise_is_not(digits, key):
    images = digits.train_images[:300] / 127.5 - 1
    near = judges.distances(digits, images.astype(np.float32))
    far = judges.distances(digits, np.asarray(jax.random.normal(key, images.shape)))
    assert near["count"] == far["count"] == 257  # the test set's size
    assert near["fd"] < 2 * near["fd_floor"] < far["fd"]


@pytest.mark.slow
def test_bits_of_the_data_s_own_gaussian(digits):
    """A normal distribution fitted to the dequantised pixels: the ODE's bits equal the density's."""
    x = (digits.train_images.reshape(-1, 64).astype(np.float64) + 0.5) / 128 - 1
    fitted = dj.GaussianMixture(jnp.ones(1), jnp.array([x.mean(0)]), jnp.array([np.cov(x.T) + 1e-3 * np.eye(64)]))
    sde = dj.VP()

    def denoise(x, t, cond=None):
        return fitted.denoise(sde, x.reshape(len(x), -1), t).reshape(x.shape)

    result = judges.bits(jax.random.key(0), denoise, sde, digits, 8, tol=1e-3)
    batch = next(batches(digits.test_images, digits.test_labels, 8, seed=0, dequantise=True))["image"]
    exact = dj.bits_per_dim(fitted.log_prob(jnp.asarray(batch).reshape(8, -1)), 64).mean()
    # one Rademacher probe for each of 8 images; its error is far below the 0.3 bits allowed here
    assert abs(result["bits_per_dim"] - float(exact)) < 0.3
    assert judges.bits(jax.random.key(0), denoise, sde, digits, 0) == {}


def test_comparing_with_the_originals():
    x = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1), minval=-1.0)
    compare = judges.compare(x)
    near, far = compare(x + 0.01), compare(x[::-1])
    assert near["psnr"] == pytest.approx(20 * np.log10(2 / 0.01), abs=1e-2)
    assert near["ssim"] > 0.95 > 0.5 > far["ssim"] and near["features"] < 0.01 < far["features"]
    assert compare(x)["features"] == 0


def test_the_judge_of_scenes_counts_what_it_sees():
    """Two scenes, a picture of each: the first as it should be, in the second the colours are exchanged."""
    wanted = SimpleNamespace(
        colours=np.array([[0, 5, -1], [2, 3, -1]], np.int32), classes=np.array([[1, 4, -1], [0, 5, -1]], np.int32)
    )
    there = judges.pairs(wanted.colours, wanted.classes)
    assert there.shape == (2, 48) and there.sum() == 4 and there[0, 0 * 6 + 1] and there[1, 3 * 6 + 5]
    seen = there.copy()
    seen[1] = judges.pairs(wanted.colours[1:, [1, 0, 2]], wanted.classes[1:])[0]
    picture = np.where(seen, 1.0, -1.0).astype(np.float32)[:, None, None]
    judge = judges.SceneJudge(lambda x, c_noise: x[:, 0, 0], batch_size=1)  # a network that reads the pairs off
    assert judge(picture, wanted) == {"colour": 1.0, "shape": 1.0, "binding": 0.5, "extra": 1.0}
    assert judge(-np.ones_like(picture), wanted) == {"colour": 0.0, "shape": 0.0, "binding": 0.0, "extra": 0.0}
    with pytest.raises(ValueError, match="a picture for each of 2 scenes, got 1"):
        judge(picture[:1], wanted)
    with pytest.raises(ValueError, match=r"each of 8 x 6 pairs, the network .* has not"):
        judges.SceneJudge(dj.Trained(dj.nn.Classifier(10), {}, ((32, 32, 3), ())))


def test_a_caption_is_taken_out_of_ten(monkeypatch):
    captions = [f"thing {i % 37}" for i in range(100)]
    texts, choices, pictures = judges.one_of_ten(np.random.default_rng(1), captions, 60)
    assert sorted(texts) == sorted(set(captions)) and choices.shape == (60, 10)
    assert all(len(set(row)) == 10 for row in choices) and sorted(set(choices[:, 0])) == list(range(37))
    assert [captions[i] for i in pictures] == [texts[i] for i in choices[:, 0]]
    assert len(set(pictures // 37)) > 1, "the first picture of each caption"
    with pytest.raises(ValueError, match="needs ten different ones, got 9"):
        judges.one_of_ten(np.random.default_rng(0), captions[:9], 5)

    words = np.eye(1008)[: len(texts)]
    clip = lambda x, method: words if method == "words" else x[:, 0, 0]  # noqa: E731
    monkeypatch.setattr(metrics, "lite0_features", lambda shape, parts: lambda x: x)
    judge = judges.caption_judge(clip, (32, 32, 3), words, choices)
    x = np.float32(words[choices[:, 0]])
    assert judge(x) == {"accuracy": 1.0, "cosine": 1.0}
    x[:15] = words[choices[:15, 9]]
    x[15:30] = 0  # all captions are equally near
    assert judge(x) == {"accuracy": 0.5, "cosine": 0.5}
    assert judge(x * np.nan)["accuracy"] == 0
