"""ONNX files that the tests write, operator by operator, against NumPy; and files that cannot be read."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from diffjax.pretrained import read_onnx  # noqa: E402

h = onnx.helper
rng = np.random.default_rng(0)
x4 = rng.normal(size=(2, 3, 6, 8)).astype(np.float32)
positive = np.abs(x4) + np.float32(0.1)
i64 = lambda *values: np.array(values, np.int64)  # noqa: E731


def declared(name, shape, dtype=np.float32):
    return h.make_tensor_value_info(name, h.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def write(path, nodes, inputs, outputs, tensors, opset=18):
    """An ONNX file; inputs and outputs are shapes by name, tensors arrays by name."""
    shapes = [[declared(name, shape) for name, shape in each.items()] for each in (inputs, outputs)]
    kept = [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in tensors.items()]
    graph = h.make_graph(nodes, "test", *shapes, kept)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10), path)
    return path


def one(path, op, inputs, tensors, shapes, **attributes):
    """A file of one operator; a tensor that is None is left out."""
    given = {f"x{i}": x.shape for i, x in enumerate(inputs)}
    kept = {f"w{i}": w for i, w in enumerate(tensors) if w is not None}
    names = [*given, *("" if w is None else f"w{i}" for i, w in enumerate(tensors))]
    outputs = {f"y{i}": shape for i, shape in enumerate(shapes)}
    return write(path, [h.make_node(op, names, list(outputs), **attributes)], given, outputs, kept)


def convolved(x, w, b, stride, pads, dilation):
    """By loops: pads are (top, left, bottom, right)."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    reach = [dilation * (k - 1) + 1 for k in w.shape[2:]]
    H, W = ((n - r) // stride + 1 for n, r in zip(x.shape[2:], reach, strict=True))
    y = np.zeros((len(x), len(w), H, W))
    for i in range(H):
        for j in range(W):
            rows, columns = (slice(k * stride, k * stride + r, dilation) for k, r in zip((i, j), reach, strict=True))
            y[:, :, i, j] = np.einsum("bchw,ochw->bo", x[:, :, rows, columns], w)
    return y + b[:, None, None]


def normalized(x, scale, bias, epsilon):
    y = np.empty_like(x)
    for b in range(len(x)):
        for c in range(x.shape[1]):
            y[b, c] = (x[b, c] - x[b, c].mean()) / np.sqrt(x[b, c].var() + epsilon) * scale[c] + bias[c]
    return y


def softmax(x, axis):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)


w33, w12, w1, b5 = (rng.normal(size=s).astype(np.float32) for s in ((5, 3, 3, 3), (5, 3, 1, 2), (5, 3, 1), (5,)))
m23, m43, v4 = (rng.normal(size=s).astype(np.float32) for s in ((2, 3), (4, 3), (4,)))
s3, t3, x3 = (rng.normal(size=s).astype(np.float32) for s in ((3,), (3,), (2, 3, 7)))
same = dict(pads=[1, 1, 1, 1], strides=[1, 1], dilations=[1, 1], group=1)
unequal = dict(pads=[0, 1, 2, 0], strides=[2, 2], dilations=[2, 2], kernel_shape=[3, 3])
nearest = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
scales = np.array([1, 1, 2, 3], np.float32)
CASES = {  # inputs, tensors, attributes, results
    "Add": ([x4], [s3[:, None, None]], {}, [x4 + s3[:, None, None]]),
    "Sub": ([x4], [np.float32(2)], {}, [x4 - 2]),
    "Mul": ([x4, x4], [], {}, [x4 * x4]),
    "Div": ([x4, positive], [], {}, [x4 / positive]),
    "Pow": ([x4], [np.float32(3)], {}, [x4**3]),
    "Pow fraction": ([positive], [np.float32(0.3)], {}, [positive**0.3]),
    "Sqrt": ([positive], [], {}, [np.sqrt(positive)]),
    "Log": ([positive], [], {}, [np.log(positive)]),
    "Cos": ([x4], [], {}, [np.cos(x4)]),
    "Sin": ([x4], [], {}, [np.sin(x4)]),
    "Reciprocal": ([positive], [], {}, [1 / positive]),
    "Sigmoid": ([x4], [], {}, [1 / (1 + np.exp(-x4))]),
    "Clip": ([x4], [np.float32(-0.5), np.float32(1)], {}, [np.clip(x4, -0.5, 1)]),
    "Clip above": ([x4], [None, np.float32(1)], {}, [np.minimum(x4, 1)]),
    "Softmax": ([x4], [], {}, [softmax(x4, -1)]),
    "Softmax axis": ([x4], [], {"axis": 1}, [softmax(x4, 1)]),
    "Conv same": ([x4], [w33, b5], same, [convolved(x4, w33, b5, 1, (1, 1, 1, 1), 1)]),
    "Conv unequal": ([x4], [w33], unequal, [convolved(x4, w33, 0 * b5, 2, (0, 1, 2, 0), 2)]),
    "Conv flat": ([x4], [w12, b5], {}, [convolved(x4, w12, b5, 1, (0, 0, 0, 0), 1)]),
    "Conv 1-D": ([x3], [w1, b5], {}, [np.einsum("bcl,oc->bol", x3, w1[..., 0]) + b5[:, None]]),
    "Gemm": ([m23], [m43, v4], {"transB": 1}, [m23 @ m43.T + v4]),
    "Gemm scaled": ([m23.T], [m43, v4], dict(transA=1, transB=1, alpha=2.0, beta=0.5), [2 * m23 @ m43.T + v4 / 2]),
    "InstanceNormalization": ([x4], [s3, t3], {"epsilon": 0.1}, [normalized(x4, s3, t3, 0.1)]),
    "AveragePool": ([x4], [], dict(kernel_shape=[4, 3], strides=[4, 3]), [x4[:, :, :4, :6].reshape(2, 3, 1, 4, 2, 3)]),
    "Resize": ([x4], [None, scales], nearest, [x4[:, :, np.arange(12) // 2][..., np.arange(24) // 3]]),
    "Einsum": ([x3, x3], [], {"equation": "bct,bcs->bts"}, [np.einsum("bct,bcs->bts", x3, x3)]),
    "Concat": ([x3, x3 + 1], [], {"axis": -1}, [np.concatenate([x3, x3 + 1], -1)]),
    "Reshape": ([x4], [i64(0, -1, 4)], {}, [x4.reshape(2, -1, 4)]),
    "Unsqueeze": ([x3], [i64(1, -1)], {}, [x3[:, None, :, :, None]]),
    "Squeeze": ([x3[:, None]], [i64(1)], {}, [x3]),
    "Split": ([x3], [i64(3, 4)], {"axis": 2}, [x3[..., :3], x3[..., 3:]]),
    "Split uneven": ([x3], [], {"axis": 2, "num_outputs": 3}, [x3[..., :3], x3[..., 3:6], x3[..., 6:]]),
}
CASES["AveragePool"][3][0] = CASES["AveragePool"][3][0].mean((3, 5))


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_that_of_numpy(name, tmp_path):
    inputs, tensors, attributes, expected = CASES[name]
    shapes = [y.shape for y in expected]
    graph, params = read_onnx(one(tmp_path / "x.onnx", name.split()[0], inputs, tensors, shapes, **attributes))
    found = graph(params, **{f"x{i}": x for i, x in enumerate(inputs)})
    for i, y in enumerate(expected):
        np.testing.assert_allclose(found[f"y{i}"], y, rtol=2e-5, atol=2e-6)


@pytest.fixture
def small(tmp_path):
    """y = sigmoid(x W^T + b) of any number of rows, through a shape that is computed, and z = x^2."""
    nodes = [
        h.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1),
        h.make_node("Shape", ["x"], ["n"], end=1),
        h.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        h.make_node("Reshape", ["g", "to"], ["r"]),
        h.make_node("Sigmoid", ["r"], ["y"]),
        h.make_node("Pow", ["x", "two"], ["z"]),
    ]
    tensors = {"w": m43, "b": v4, "rest": i64(2, 2), "two": np.float32(2)}
    return write(tmp_path / "small.onnx", nodes, {"x": ("rows", 3)}, {"y": ("rows", 2, 2), "z": ("rows", 3)}, tensors)


def test_a_graph_is_jitted_and_differentiated(small):
    graph, params = read_onnx(small)
    assert set(params) == {"w", "b"}
    total = lambda p, x: sum(y.sum() for y in graph(p, x=x).values())  # noqa: E731
    value, (dp, dx) = jax.jit(jax.value_and_grad(total, (0, 1)))(params, m23)
    y = 1 / (1 + np.exp(-(m23 @ m43.T + v4)))
    slope = y * (1 - y)
    np.testing.assert_allclose(value, y.sum() + (m23**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(dx, slope @ m43 + 2 * m23, rtol=1e-4)  # also where x is negative
    np.testing.assert_allclose(dp["w"], slope.T @ m23, rtol=1e-4, atol=1e-6)


def test_inputs_and_parameters_that_do_not_fit(small):
    graph, params = read_onnx(small)
    for inputs in ({}, {"v": m23}, {"x": m23, "v": m23}):
        with pytest.raises(ValueError, match="the inputs are x; got"):
            graph(params, **inputs)
    with pytest.raises(ValueError, match=r"x must be of shape \[rows, 3\], got \[2, 4\]"):
        graph(params, x=np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="x must be of float32, got int32"):
        graph(params, x=np.zeros((2, 3), np.int32))
    with pytest.raises(ValueError, match="lacks 'b'"):
        graph({"w": params["w"]}, x=m23)
    with pytest.raises(ValueError, match="'b' has the shape"):
        graph(params | {"b": jnp.zeros(5)}, x=m23)


def test_files_that_are_no_graph(small, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "none.onnx")
    whole, damaged = small.read_bytes(), tmp_path / "damaged.onnx"
    for raw in (whole[:-40], whole[: len(whole) // 2], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        damaged.write_bytes(raw)
        with pytest.raises(ValueError, match=r"damaged\.onnx is truncated, damaged or no ONNX file"):
            read_onnx(damaged)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'diffjax\[onnx\]'"):
        read_onnx(small)


@pytest.mark.parametrize(
    ("op", "inputs", "tensors", "attributes", "message"),
    [
        ("Tan", [x4], [], {}, r"operator Tan \(number 0\) is not known"),
        ("Conv", [x4], [w33[:, :1]], {"group": 3}, "known with group = 1 only, got 3"),
        ("Conv", [x4], [w33[:, :2]], {}, r"Conv\) failed: a kernel of shape \(3, 3, 2, 5\)"),
        ("Conv", [x4], [w33], {"strides": [1, 2]}, r"strides \(1, 2\) and dilations"),
        ("AveragePool", [x4], [], {"kernel_shape": [2, 2]}, "only with strides like its kernel"),
        ("Resize", [x4], [None, scales], {"mode": "linear"}, "known with mode = nearest only, got linear"),
        ("Resize", [x4], [None, scales / 2], nearest, "whole numbers"),
        ("Split", [x3], [i64(3, 3)], {"axis": 2}, "do not add up to 7"),
        ("Gemm", [m23], [m43], {"transB": 1}, r"y0 has the shape \(2, 4\), declared is \(9, 9\)"),
    ],
)
def test_operators_that_are_not_known_and_tensors_that_do_not_fit(op, inputs, tensors, attributes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_onnx(one(tmp_path / "x.onnx", op, inputs, tensors, [(9,) * inputs[0].ndim], **attributes))


def test_versions_and_tensors_that_are_missing_or_not_used(tmp_path):
    node, x = [h.make_node("Add", ["x", "w"], ["y"])], {"x": (3,)}
    with pytest.raises(ValueError, match="18 to 20 can be read"):
        read_onnx(write(tmp_path / "x.onnx", node, x, {"y": (3,)}, {"w": s3}, opset=13))
    with pytest.raises(ValueError, match=r"'?w'? "):
        read_onnx(write(tmp_path / "x.onnx", node, x, {"y": (3,)}, {}))
    with pytest.raises(ValueError, match="nothing uses the tensor more"):
        read_onnx(write(tmp_path / "x.onnx", node, x, {"y": (3,)}, {"w": s3, "more": s3}))
    model = onnx.load(write(tmp_path / "x.onnx", node, x, {"y": (3,)}, {"w": s3}))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "elsewhere.bin")
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="keeps its tensors in other files"):
        read_onnx(tmp_path / "x.onnx")
    shape = [h.make_node("Reshape", ["x", "w"], ["y"])]
    with pytest.raises(ValueError, match="depends on the values of an input"):
        model = onnx.load(write(tmp_path / "x.onnx", shape, x, {"y": (3, 1)}, {"w": i64(3, 1)}))
        del model.graph.initializer[:]
        model.graph.input.append(declared("w", (2,), np.int64))
        onnx.save(model, tmp_path / "x.onnx")
        read_onnx(tmp_path / "x.onnx")
