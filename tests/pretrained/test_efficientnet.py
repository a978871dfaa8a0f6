"""EfficientNet-Lite0 at an eighth of its width against NumPy, its normalizations not folded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import conv, depthwise, relu
from torch_files import save_stream, save_zip, whole

from diffjax.pretrained import efficientnet, load_efficientnet_lite0

FIRST_STRIDES = [1, 2, 2, 2, 1, 2, 1]
REPEATS = [1, 2, 2, 3, 3, 4, 1]


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)

    def one(name, shape):
        if "running_var" in name:
            return rng.uniform(0.5, 2, shape)
        fan = np.prod(shape[1:]) if len(shape) > 1 else 4
        return rng.normal(size=shape) * (2 / fan) ** 0.5

    return {name: one(name, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def arrays():
    narrow = {n: tuple(k // 8 if k >= 8 else k for k in like.shape) for n, like in efficientnet.layout().items()}
    return draw(narrow)


def normed(a, name, norm, x, stride=1):
    w = a[f"{name}.weight"].astype(np.float64)
    channels = "depthwise" in name
    y = depthwise(x, w[:, 0].transpose(1, 2, 0), stride) if channels else conv(x, w.transpose(2, 3, 1, 0), stride)
    mean, var, scale, shift = (a[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return (y - mean) / np.sqrt(var + 1e-3) * scale + shift


def expected(a, images):
    x = relu(normed(a, "_conv_stem", "_bn0", ((images + 1) / 2 * 255 - 127) / 128, 2), 6)
    stages, i = [x], 0
    for stride, repeats in zip(FIRST_STRIDES, REPEATS, strict=True):
        for r in range(repeats):
            at, y = f"_blocks.{i}.", x
            if i:
                y = relu(normed(a, at + "_expand_conv", at + "_bn0", y), 6)
            y = relu(normed(a, at + "_depthwise_conv", at + "_bn1", y, 1 if r else stride), 6)
            y = normed(a, at + "_project_conv", at + "_bn2", y)
            x, i = x + y if r else y, i + 1
        stages.append(x)
    pooled = relu(normed(a, "_conv_head", "_bn1", x), 6).mean((1, 2))
    return stages, pooled, pooled @ a["_fc.weight"].T + a["_fc.bias"]


def test_features(arrays):
    net = jax.tree_util.Partial(jax.jit(efficientnet.features), efficientnet.arrange(arrays))
    images = np.random.default_rng(1).uniform(-1, 1, (2, 37, 50, 3))  # odd sizes: the padding is not symmetric
    stages, pooled, logits = expected(arrays, images)
    found = net(images)
    assert len(found.stages) == len(stages) == 8 and pooled.std() > 0.1 and logits.std() > 0.1
    for ours, theirs in zip([*found.stages, found.pooled, found.logits], [*stages, pooled, logits], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.std())


@pytest.mark.parametrize("save", [save_stream, save_zip])
def test_load(tmp_path, save):
    full = draw({name: like.shape for name, like in efficientnet.layout().items()})
    save(tmp_path / "m.pth", *whole({**full, "_bn0.num_batches_tracked": np.array(7)}))
    net = load_efficientnet_lite0(tmp_path / "m.pth")
    assert sum(x.size for x in jax.tree.leaves(net)) == 4_631_000
    np.testing.assert_array_equal(net.args[0]["classes"]["bias"], full["_fc.bias"])
    out = jax.eval_shape(net, jnp.zeros((2, 224, 200, 3)))
    sizes = [(112, 100), (112, 100), (56, 50), (28, 25), (14, 13), (14, 13), (7, 7), (7, 7)]
    channels = [32, 16, 24, 40, 80, 112, 192, 320]
    assert [s.shape for s in out.stages] == [(2, *hw, c) for hw, c in zip(sizes, channels, strict=True)]
    assert (out.pooled.shape, out.logits.shape) == ((2, 1280), (2, 1000))
    with pytest.raises(ValueError, match="RGB images"):
        jax.eval_shape(net, jnp.zeros((2, 224, 224, 1)))


def test_load_errors(tmp_path, arrays):
    with pytest.raises(FileNotFoundError, match="make data"):
        load_efficientnet_lite0(tmp_path / "m.pth")
    save_stream(tmp_path / "m.pth", *whole(arrays))
    with pytest.raises(ValueError, match=r"'_blocks.0._bn1.bias' has the shape \(4,\), but the network needs \(32,\)"):
        load_efficientnet_lite0(tmp_path / "m.pth")
    (tmp_path / "m.pth").write_bytes((tmp_path / "m.pth").read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        load_efficientnet_lite0(tmp_path / "m.pth")
