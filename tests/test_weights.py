import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from diffjax.weights import graft, load_params, replacing, save_params

PARAMS = {"params": {"conv": {"kernel": np.arange(6.0).reshape(2, 3) / 8, "bias": np.float32(0.5)}, "n": np.arange(3)}}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    return True


def test_round_trip_with_names_dtypes_and_metadata(tmp_path):
    path = tmp_path / "deep" / "p.safetensors"
    save_params(path, PARAMS, metadata={"network": "small"})
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"params/conv/kernel", "params/conv/bias", "params/n"}
        assert file.metadata() == {"network": "small"}
        assert file.get_tensor("params/conv/kernel").dtype == np.float16
    loaded = load_params(path, like=PARAMS)
    assert same(loaded, PARAMS)  # multiples of 1/8: exact in float16
    assert loaded["params"]["conv"]["kernel"].dtype == np.float32
    assert loaded["params"]["conv"]["bias"].shape == ()
    assert loaded["params"]["n"].dtype == np.arange(3).dtype  # integers stay as they are


def test_none_keeps_dtypes(tmp_path):
    path = tmp_path / "p.safetensors"
    x = {"a": np.array([1 + 2.0**-40]), "b": np.array([0.1], np.float32)}
    save_params(path, x, dtype=None)
    loaded = load_params(path, dtype=None)
    assert loaded["a"].dtype == np.float64 and loaded["b"].dtype == np.float32 and same(loaded, x)


def test_jax_and_transposed_arrays(tmp_path):
    path = tmp_path / "p.safetensors"
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    save_params(path, {"t": x.T, "j": jnp.asarray(x)})
    assert same(load_params(path), {"t": x.T, "j": x})
    shapes = jax.eval_shape(lambda: {"t": jnp.zeros((3, 2)), "j": jnp.zeros((2, 3))})
    assert same(load_params(path, like=shapes), {"t": x.T, "j": x})


def test_bfloat16(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, {"b": jnp.array([0.5, 3.0], jnp.bfloat16)})
    loaded = load_params(path)
    assert loaded["b"].dtype == np.float32 and same(loaded, {"b": np.array([0.5, 3.0])})
    save_params(path, {"b": np.array([0.5, 3.0])}, dtype=jnp.bfloat16)
    assert same(load_params(path), {"b": np.array([0.5, 3.0])})


def test_missing_truncated_and_foreign_files(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_params(path)
    save_params(path, PARAMS)
    whole = path.read_bytes()
    for broken in (whole[:-3], whole[:20], b"", b"PK\x03\x04 some zip file"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="truncated or no safetensors file"):
            load_params(path)


def test_differences_from_like_are_named(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, {"a": {"w": np.zeros((2, 3))}, "b": np.zeros(4)})
    with pytest.raises(ValueError, match=r"'a/w' has the shape \(2, 3\), but the network needs \(3, 2\)"):
        load_params(path, like={"a": {"w": np.zeros((3, 2))}, "b": np.zeros(5)})
    with pytest.raises(ValueError, match=r"lacks 'a/bias', of shape \(7,\)"):
        load_params(path, like={"a": {"w": np.zeros((2, 3)), "bias": np.zeros(7)}, "b": np.zeros(4)})
    with pytest.raises(ValueError, match="holds 'b', of shape"):
        load_params(path, like={"a": {"w": np.zeros((2, 3))}})


def test_bad_params(tmp_path):
    path = tmp_path / "p.safetensors"
    cases = [
        (np.zeros(3), TypeError, "nested dict"),
        ({"a": {1: np.zeros(3)}}, TypeError, "string keys"),
        ({"a/b": np.zeros(3)}, ValueError, "'/'"),
        ({"": np.zeros(3)}, ValueError, "empty"),
        ({"a": {}}, ValueError, "nothing to store: the dict 'a'"),
        ({"a": None}, TypeError, "'a' is no array"),
        ({"a": np.array([1e6])}, ValueError, "'a' holds numbers too large for float16"),
    ]
    for params, error, message in cases:
        with pytest.raises(error, match=message):
            save_params(path, params)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, PARAMS)
    with pytest.raises(RuntimeError, match="power cut"), replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError("power cut")
    assert same(load_params(path), PARAMS)
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_student_takes_its_teachers_weights_and_keeps_what_it_has_alone():
    student = jax.tree.map(lambda x: np.zeros_like(x), PARAMS) | {"embedding": {"target": {"kernel": np.ones(2)}}}
    taken = graft(student, PARAMS)
    assert same(taken, PARAMS | {"embedding": student["embedding"]})
    with pytest.raises(
        ValueError, match=r"'params/conv/kernel' has the shape \(2, 3\), but the network needs \(3, 3\)"
    ):
        graft({"params": {**PARAMS["params"], "conv": {"kernel": np.ones((3, 3)), "bias": np.float32(0)}}}, PARAMS)
    with pytest.raises(ValueError, match="the teacher lacks 'other'"):
        graft(PARAMS | {"other": np.ones(2)}, PARAMS)
    with pytest.raises(ValueError, match=r"'params/n', of shape .*, which the network does not have"):
        graft({"params": {"conv": PARAMS["params"]["conv"]}}, PARAMS)
