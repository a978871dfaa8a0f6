"""Networks in ONNX files as pure functions `(params, **inputs) -> outputs`, without ONNX Runtime.

    graph, params = read_onnx("network.onnx")
    y = graph(params, x=x)["y"]

A graph is a list of operators, each from named tensors to named tensors; the file's own tensors are the parameters, or,
where they are scalars, integers or shapes, constants of the program. Every operator is run by JAX (`onnx_operators`),
so that the network is differentiable, in its inputs and parameters, and crosses `jit`, `vmap` and `scan`. Kernels of
convolutions are turned from [O, I, ...] to [..., I, O]; all else in `params` is as in the file.

The package `onnx` reads the file: pip install 'diffjax[onnx]'.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.files import read
from diffjax.parameters import compare
from diffjax.pretrained.onnx_operators import ONLY, OPERATORS, SHAPES

OPSETS = range(18, 21)  # the operators here are the same in all of them
NUMBERS = ("float16", "float32", "float64", "int32", "int64", "bool")


class Node(NamedTuple):
    """One operator; an input that is left out is ""."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...]


class Tensor(NamedTuple):
    """An input or output: its sides, a name where they are free, such as ("batch", 1, 128, 128)."""

    shape: tuple[int | str, ...]
    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """What an ONNX file computes, of parameters that `read_onnx` returns with it.

    Attributes:
      inputs, outputs: by their names.
      parameters: the shapes and dtypes of what `params` must hold.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    parameters: Mapping[str, jax.ShapeDtypeStruct]

    def __repr__(self) -> str:
        return f"Graph({', '.join(self.inputs)} -> {', '.join(self.outputs)}; {len(self.nodes)} operators)"

    def __call__(self, params: Mapping[str, Array], **inputs: Any) -> dict[str, Array]:
        """The outputs by name.

        Raises:
          ValueError: an input is missing, unknown, or of another shape or kind of numbers; or the parameters are those
            of another graph.
        """
        compare("params", params, self.parameters)
        given = {name: jnp.asarray(x) for name, x in inputs.items()}
        self._check(given)
        values = {"": None, **self.constants, **{k: jnp.asarray(p) for k, p in params.items()}, **given}
        for node in self.nodes:
            try:
                found = OPERATORS[node.op](*(values[name] for name in node.inputs), **dict(node.attributes))
            except (TypeError, ValueError) as error:
                raise ValueError(f"the operator {node.name} ({node.op}) failed: {error}") from error
            found = found if isinstance(found, tuple) else (found,)
            values.update(zip(node.outputs, found, strict=True))
        return {name: values[name] for name in self.outputs}

    def _check(self, given: Mapping[str, Array]) -> None:
        if given.keys() != self.inputs.keys():
            raise ValueError(f"the inputs are {', '.join(self.inputs)}; got {', '.join(given) or 'none'}")
        sides: dict[str, int] = {}
        for name, x in given.items():
            want = self.inputs[name].shape
            fits = len(want) == x.ndim and all(
                (sides.setdefault(w, n) if isinstance(w, str) else w) == n for w, n in zip(want, x.shape, strict=True)
            )
            if not fits:
                raise ValueError(f"{name} must be of shape [{', '.join(map(str, want))}], got {list(x.shape)}")
            dtype = self.inputs[name].dtype
            if jnp.issubdtype(x.dtype, jnp.floating) != jnp.issubdtype(dtype, jnp.floating):
                raise ValueError(f"{name} must be of {dtype}, got {x.dtype}")


def read_onnx(path: str | Path) -> tuple[Graph, dict[str, Array]]:
    """The graph of an ONNX file, and its parameters by their names in the file.

    Raises:
      ImportError: the package `onnx` is not installed.
      FileNotFoundError: there is no such file.
      ValueError: it is truncated, damaged or no ONNX file; keeps its tensors elsewhere; is of another operator set; has
        an operator, or an attribute of one, that is not known here; a tensor that is used is missing, one is not used,
        or one does not fit (what is wrong is named).
    """
    model = _parse(path)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if set(versions) - {"", "ai.onnx"} or versions.get("", versions.get("ai.onnx")) not in OPSETS:
        raise ValueError(f"{path} is of the operator sets {versions}; {OPSETS[0]} to {OPSETS[-1]} can be read")
    nodes = tuple(_node(path, i, node) for i, node in enumerate(model.graph.node))
    tensors = _tensors(path, model.graph)
    inputs, outputs = (_declared(path, values, tensors) for values in (model.graph.input, model.graph.output))
    _check_names(path, nodes, tensors, inputs, outputs)
    constants, params = _divide(nodes, tensors)
    like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in params.items()}
    graph = Graph(nodes, constants, inputs, outputs, like)
    _try(path, graph)
    return graph, jax.device_put(params)


def _parse(path: str | Path) -> Any:
    raw = read(Path(path))
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError("reading an ONNX file needs the package onnx: pip install 'diffjax[onnx]'") from error
    try:
        model = onnx.load_model_from_string(raw)
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise ValueError(f"{path} keeps its tensors in other files: save it with all of them in one")
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is truncated, damaged or no ONNX file: {reason}") from error
    return model


def _node(path: str | Path, i: int, node: Any) -> Node:
    from onnx.helper import get_attribute_value

    name = node.name or f"number {i}"
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        raise ValueError(f"{path}: the operator {node.op_type} ({name}) is not known; known: {', '.join(OPERATORS)}")
    attributes = {attribute.name: _plain(get_attribute_value(attribute)) for attribute in node.attribute}
    only = ONLY.get(node.op_type, {})
    takes = {
        key for key, p in inspect.signature(OPERATORS[node.op_type]).parameters.items() if p.kind == p.KEYWORD_ONLY
    }
    for key, value in attributes.items():
        if key not in takes and key not in only:
            raise ValueError(f"{path}: the attribute {key} of {node.op_type} ({name}) is not known")
        if key in only and value != only[key]:
            raise ValueError(f"{path}: {node.op_type} ({name}) is known with {key} = {only[key]} only, got {value}")
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), tuple(sorted(attributes.items())))


def _plain(value: Any) -> Any:
    """An attribute as something that can be compared and printed."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, list | tuple) or hasattr(value, "__iter__"):
        return tuple(_plain(one) for one in value)
    raise ValueError(f"attributes of type {type(value).__name__} are not known")


def _tensors(path: str | Path, graph: Any) -> dict[str, np.ndarray]:
    from onnx.numpy_helper import to_array

    found = {}
    for tensor in graph.initializer:
        try:
            x = to_array(tensor)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: the tensor {tensor.name} is damaged: {error}") from error
        if x.dtype.name not in NUMBERS:
            raise ValueError(f"{path}: the tensor {tensor.name} is of {x.dtype}, known are {', '.join(NUMBERS)}")
        found[tensor.name] = x
    return found


def _declared(path: str | Path, values: Any, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    from onnx.helper import tensor_dtype_to_np_dtype

    found = {}
    for value in values:
        kind = value.type.tensor_type
        if value.name in tensors:  # as old files have it
            continue
        if not kind.HasField("shape"):
            raise ValueError(f"{path} does not give the shape of {value.name}")
        sides = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}.{i}"
            for i, d in enumerate(kind.shape.dim)
        )
        found[value.name] = Tensor(sides, np.dtype(tensor_dtype_to_np_dtype(kind.elem_type)))
    return found


def _check_names(path: str | Path, nodes: Any, tensors: Any, inputs: Any, outputs: Any) -> None:
    """Raise a ValueError for a tensor that is missing, or that nothing uses."""
    there, used = {"", *tensors, *inputs}, set(outputs)
    for node in nodes:
        if lost := [name for name in node.inputs if name not in there]:
            raise ValueError(f"{path}: the operator {node.name} ({node.op}) needs {lost[0]}, which is missing")
        there |= set(node.outputs)
        used |= set(node.inputs)
    if lost := sorted(set(outputs) - there):
        raise ValueError(f"{path}: no operator gives the output {lost[0]}")
    if idle := sorted((tensors.keys() | inputs.keys()) - used):
        raise ValueError(f"{path}: nothing uses the tensor {idle[0]}")


def _divide(nodes: Any, tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The constants of the program and its parameters, kernels turned."""
    shapes = {node.inputs[i] for node in nodes for i in SHAPES.get(node.op, ()) if i < len(node.inputs)}
    kernels = {node.inputs[1] for node in nodes if node.op == "Conv"}
    constants, params = {}, {}
    for name, x in tensors.items():
        if name in shapes or not x.ndim or not np.issubdtype(x.dtype, np.floating):
            constants[name] = x
        elif name in kernels:
            params[name] = np.ascontiguousarray(np.moveaxis(x, (0, 1), (-1, -2)))
        else:
            params[name] = x
    return constants, params


def _try(path: str | Path, graph: Graph) -> None:
    """Raise a ValueError unless the graph runs, with free sides of 2, and gives what it declares."""
    sides = lambda t: tuple(2 if isinstance(n, str) else n for n in t.shape)  # noqa: E731
    given = {name: jax.ShapeDtypeStruct(sides(t), t.dtype) for name, t in graph.inputs.items()}
    try:
        found = jax.eval_shape(lambda params, given: graph(params, **given), dict(graph.parameters), given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    for name, want in graph.outputs.items():
        if found[name].shape != sides(want):
            raise ValueError(f"{path}: {name} has the shape {found[name].shape}, declared is {want.shape}")
