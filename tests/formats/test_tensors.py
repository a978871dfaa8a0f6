"""Flat safetensors files: against the library safetensors, types, damage."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from diffjax.formats.tensors import TYPES, read_tensors, read_tensors_metadata, write_tensors

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/c": np.array([1.5, -2], np.float16),
    "scalar": np.array(3),
    "empty": np.zeros((0, 4), np.float64),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "b": np.array([True, False, True]),
}


def same(a, b):
    assert a.keys() == b.keys()
    for name, x in a.items():
        assert x.dtype == b[name].dtype and x.shape == b[name].shape and (x == b[name]).all(), name


def test_the_library_reads_what_is_written_and_the_reverse(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    write_tensors(path, ARRAYS, {"format": "pt", "b": "é"})
    same(ARRAYS, load_file(path))
    same(ARRAYS, read_tensors(path))
    assert read_tensors_metadata(path) == {"format": "pt", "b": "é"}
    arrays = {n: np.ascontiguousarray(x) for n, x in ARRAYS.items()} | {"scalar": np.array(3)}
    save_file(arrays, tmp_path / "b.safetensors")
    same(ARRAYS, read_tensors(tmp_path / "b.safetensors"))
    assert read_tensors_metadata(tmp_path / "b.safetensors") == {}


def test_every_type_returns_bit_for_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {name: np.array([0, 1, 100]).astype(kind) for name, kind in TYPES.items()}
    write_tensors(path, arrays)
    same(arrays, read_tensors(path))
    big = {"x": np.array([1.0, 2.0], ">f8")}
    write_tensors(path, big)
    assert read_tensors(path)["x"].tolist() == [1, 2]
    assert not read_tensors(path)["x"].flags.writeable
    assert jnp.asarray(arrays["BF16"]).dtype == jnp.bfloat16


@pytest.mark.parametrize(("header", "message"), [
    ({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, "is stored as F8_E4M3"),
    ({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 3]}}, "has the bytes 0 to 3"),
    ({"x": {"dtype": "U8", "shape": [5], "data_offsets": [0, 5]}}, "is truncated: 'x' ends at byte 5 of 4"),
    ({"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, "arrays end at byte"),
    ({"x": {"dtype": "U8", "shape": [4]}}, "its entry 'x' is"), ([1], "header is no JSON"),
])  # fmt: skip
def test_damaged_files_are_refused(tmp_path, header, message):
    path = tmp_path / "a.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


@pytest.mark.parametrize(("first", "message"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    (b"<!DOCTYPE html>", "fetch it again"),
    (b"PK\3\4", "a pickle under another name"), (b"PK" + bytes(6) + bytes(2**15), "a pickle under another name"),
    (b"", "no safetensors file: a header of 0 bytes, 0 in all$"),
])  # fmt: skip
def test_what_a_file_is_instead_is_said(tmp_path, first, message):
    (tmp_path / "a.safetensors").write_bytes(first)
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "a.safetensors")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_tensors(tmp_path / "a.safetensors")
    for name in ("model.ckpt", "pytorch_model.bin", "x.pt", "x.pth"):
        with pytest.raises(ValueError, match=r"is a pickle, which can run any code"):
            read_tensors(tmp_path / name)
    with pytest.raises(TypeError, match="'x' holds complex64"):
        write_tensors(tmp_path / "a.safetensors", {"x": np.zeros(1, np.complex64)})
