"""ONNX files that tests write."""

import numpy as np


def terrain(path, side=128):
    """The inputs and outputs of the terrain network: denoised = clip(noisy / (1 + sigma^2) + difficulty / 2, -1, 1)."""
    import onnx  # optional

    helper = onnx.helper
    image, number = ("batch", 1, side, side), ("batch",)
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)  # noqa: E731
    tensors = {"two": 2.0, "one": 1.0, "half": 0.5, "low": -1.0, "axes": np.array([1, 2, 3])}
    kept = [
        onnx.numpy_helper.from_array(np.asarray(x, np.int64 if np.ndim(x) else np.float32), n)
        for n, x in tensors.items()
    ]
    nodes = [
        ("Pow", "sigma two", "squared"),
        ("Add", "squared one", "norm"),
        ("Unsqueeze", "norm axes", "column"),
        ("Div", "noisy column", "scaled"),
        ("Mul", "difficulty half", "d"),
        ("Unsqueeze", "d axes", "lifted"),
        ("Add", "scaled lifted", "sum"),
        ("Clip", "sum low one", "denoised"),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names.split(), [out]) for op, names, out in nodes],
        "stand-in",
        [value("noisy", image), value("sigma", number), value("difficulty", number)],
        [value("denoised", image)],
        kept,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
