"""The face network at an eighth of its width against NumPy, written from the package's layers, nothing folded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import conv, relu, windows

from diffjax.data import packages
from diffjax.operators import Measurement, Misfit, Views
from diffjax.pretrained import FACE_NET, face, load_face_net

NARROW = {32: 4, 64: 8, 128: 16, 256: 32}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    narrow = {name: tuple(NARROW.get(n, n) for n in like.shape) for name, like in face.layout().items()}
    fan = {name: np.prod(shape[:-1]) if len(shape) > 1 else 4 for name, shape in narrow.items()}
    return {name: rng.normal(size=shape) * (2 / fan[name]) ** 0.5 for name, shape in narrow.items()}


@pytest.fixture(scope="module")
def net(arrays):
    params = face.arrange({name: x.astype(np.float32) for name, x in arrays.items()})
    return jax.tree_util.Partial(jax.jit(face.embed), params)


def layer(a, name, x, stride=1, padding="SAME"):
    y = conv(x, a[f"{name}/conv/filters"], stride, padding) + a[f"{name}/conv/bias"]
    return y * a[f"{name}/scale/weights"] + a[f"{name}/scale/biases"]


def plain(a, name, x):
    return relu(x + layer(a, f"{name}/conv2", relu(layer(a, f"{name}/conv1", x))))


def halving(a, name, x):
    y = layer(a, f"{name}/conv2", relu(layer(a, f"{name}/conv1", x, 2, "VALID")))
    x = windows(x, 2, 2, "VALID").mean((-2, -1))
    out = np.zeros((*np.maximum(x.shape, y.shape)[:3], y.shape[3]))
    out[:, : x.shape[1], : x.shape[2], : x.shape[3]] += x
    out[:, : y.shape[1], : y.shape[2]] += y
    return relu(out)


def expected(a, images):
    """Images [B, 150, 150, 3]."""
    x = ((images + 1) / 2 * 255 - [122.782, 117.001, 104.298]) / 255
    x = windows(relu(layer(a, "conv32_down", x, 2, "VALID")), 3, 2, "VALID").max((-2, -1))
    sizes = [x.shape[1]]
    for level in (
        "32_1 32_2 32_3",
        "64_down 64_1 64_2 64_3",
        "128_down 128_1 128_2",
        "256_down 256_1 256_2 256_down_out",
    ):
        for name in level.split():
            x = (halving if "down" in name else plain)(a, f"conv{name}", x)
        sizes.append(x.shape[1])
    assert sizes == [35, 35, 17, 8, 2]
    return x.mean((1, 2)) @ a["fc"]


def double(images):
    """Bilinear interpolation to twice the size: 1/4 and 3/4 of neighbouring pixels, the border repeated."""
    for axis in (1, 2):
        x = np.moveaxis(images, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        x = np.stack([x / 4 * 3 + before / 4, x / 4 * 3 + after / 4], 1).reshape(-1, *x.shape[1:])
        images = np.moveaxis(x, 0, axis)
    return images


def test_embeddings(arrays, net):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 75, 75, 3))
    reference = expected(arrays, double(images))
    assert reference.std() > 0.1
    np.testing.assert_allclose(net(images), reference, rtol=1e-4, atol=1e-4)


def test_gradient_skips_few_pixels_of_larger_and_of_smaller_images(net):
    x = np.random.default_rng(1).uniform(-1, 1, (1, 400, 40, 3)).astype(np.float32)
    g = jax.jit(jax.grad(lambda x: net(x).sum()))(x)
    assert np.isfinite(g).all()
    assert (np.abs(g).sum(-1) > 0).mean() > 0.9  # without smoothing a quarter of the rows would have none


@pytest.fixture(scope="module")
def trained():
    try:
        return load_face_net(packages.find(*FACE_NET))
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["net", "trained"])
def test_identity_loss_at_the_reference_is_0_and_its_gradient_finite(which, request):
    """The loss of `experiments/mpgd.py`: |f(x) - y|, f in eight views.

    If y is f(x) to the last bit, loss and gradient are 0. If another program found y, the loss is 0 up to rounding,
    and the gradient some direction that rounding chose, of no more than usual length.
    """
    see, rng = Views(request.getfixturevalue(which)), np.random.default_rng(1)
    x, other = (np.kron(rng.uniform(-1, 1, (1, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype("float32") for _ in range(2))
    y = jax.jit(lambda x: see(x))(x)
    size = float(jnp.linalg.norm(y))

    @jax.jit
    @jax.value_and_grad
    def loss(x, y, same):
        seen = see(x)
        wanted = jnp.where(same, jax.lax.stop_gradient(seen), y)
        return Misfit(Measurement(lambda _: seen, wanted))(x).sum()

    value, grad = loss(x, y, True)
    assert value == 0 and (grad == 0).all()
    value, grad = loss(x, y, False)
    far, slope = loss(other, y, False)
    assert value < 1e-5 * size and far > 100 * value
    assert np.isfinite(grad).all() and jnp.linalg.norm(grad) < 10 * jnp.linalg.norm(slope)


def test_bad_images(net):
    with pytest.raises(ValueError, match="RGB images"):
        jax.eval_shape(net, jnp.zeros((2, 32, 32, 1)))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of the real size, with random bytes."""
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    how = {"dtype": "uint8", "scale": 0.01, "min": -1.0}
    weights = [
        {"name": name, "shape": like.shape, "dtype": "float32", "quantization": how}
        for name, like in face.layout().items()
    ]
    raw = rng.bytes(sum(np.prod(w["shape"]) for w in weights))
    (folder / "m.bin").write_bytes(raw)
    (folder / "m.json").write_text(json.dumps([{"paths": ["m.bin"], "weights": weights}]))
    return folder, raw


def test_load(package):
    folder, raw = package
    net = load_face_net(folder / "m.json")
    n = 7 * 7 * 3 * 32  # filters, bias, scale, shift: the first four arrays
    w, b, s, t = np.split(np.frombuffer(raw, np.uint8, n + 96) / 100 - 1, [n, n + 32, n + 64])
    first = net.args[0]["in"]
    np.testing.assert_allclose(first["kernel"], w.reshape(7, 7, 3, 32) * s, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first["bias"], b * s + t, rtol=1e-4, atol=1e-6)
    assert sum(x.size for x in jax.tree.leaves(net)) == 5_607_488
    assert jax.eval_shape(net, jnp.zeros((2, 32, 48, 3))).shape == (2, 128)


def test_load_errors(package, tmp_path):
    folder, raw = package
    with pytest.raises(FileNotFoundError, match="make data"):
        load_face_net(tmp_path / "m.json")
    text = (folder / "m.json").read_text()
    (tmp_path / "m.json").write_text(text)
    (tmp_path / "m.bin").write_bytes(raw[:-1])
    with pytest.raises(ValueError, match="does not fit its files"):
        load_face_net(tmp_path / "m.json")
    (tmp_path / "m.json").write_text(text.replace("conv64_2", "conv64_9"))
    (tmp_path / "m.bin").write_bytes(raw)
    with pytest.raises(ValueError, match="lacks 'conv64_2/conv1/conv/bias'"):
        load_face_net(tmp_path / "m.json")
