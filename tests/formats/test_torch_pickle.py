"""State dicts of PyTorch in both containers, and files that are damaged or mean harm."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import Tensor, dumps, save_stream, save_zip, whole

from diffjax.formats.torch_pickle import load_state_dict

ARRAYS = {
    "conv.weight": np.arange(24, dtype="<f4").reshape(2, 3, 4) / 7,
    "half": np.array([0.5, -3.0], "<f2"),
    "counter": np.array(12, "<i8"),
    "bytes": np.arange(5, dtype="u1"),
    "empty": np.zeros((0, 3), "<f8"),
}
SAVE = pytest.mark.parametrize("save", [save_stream, save_zip])


@SAVE
def test_round_trip(tmp_path, save):
    save(tmp_path / "m.pth", *whole(ARRAYS))
    loaded = load_state_dict(tmp_path / "m.pth")
    assert list(loaded) == list(ARRAYS)
    for name, x in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], x, strict=True)


@SAVE
def test_views_of_one_storage(tmp_path, save):
    numbers = np.arange(20, dtype="<f4")
    tensors = OrderedDict(
        rows=Tensor("0", 2, (3, 4), (4, 1)),
        columns=Tensor("0", 2, (4, 3), (1, 4)),
        repeated=Tensor("0", 19, (2, 2), (0, 0)),
        parameter=Tensor("0", 0, (5,), (4,), parameter=True),
    )
    tensors._metadata = OrderedDict({"": {"version": 1}})  # as PyTorch's modules add it
    save(tmp_path / "m.pth", tensors, {"0": numbers})
    loaded = load_state_dict(tmp_path / "m.pth")
    np.testing.assert_array_equal(loaded["rows"], numbers[2:14].reshape(3, 4))
    np.testing.assert_array_equal(loaded["columns"], numbers[2:14].reshape(3, 4).T)
    np.testing.assert_array_equal(loaded["repeated"], np.full((2, 2), 19))
    np.testing.assert_array_equal(loaded["parameter"], [0, 4, 8, 12, 16])


@SAVE
@pytest.mark.parametrize(
    ("view", "message"),
    [
        (Tensor("0", 17, (4,), (1,)), "'x' reaches beyond its storage"),
        (Tensor("0", 0, (3, 7), (7, 1)), "'x' reaches beyond its storage"),
        (Tensor("0", -1, (2,), (1,)), "'x' reaches beyond its storage"),
        (Tensor("0", 5, (3,), (-4,)), "'x' reaches beyond its storage"),
        (Tensor("0", 0, (3,), (1, 1)), "is longer than"),
        ("words", "'x' is no tensor but str"),
    ],
)
def test_bad_views(tmp_path, save, view, message):
    tensors = OrderedDict(good=Tensor("0", 0, (20,), (1,)), x=view)
    save(tmp_path / "m.pth", tensors, {"0": np.arange(20, dtype="<f4")})
    with pytest.raises(ValueError, match=message):
        load_state_dict(tmp_path / "m.pth")


@SAVE
def test_truncated_files(tmp_path, save):
    path = tmp_path / "m.pth"
    save(path, *whole(ARRAYS))
    data = path.read_bytes()
    for n in (0, 3, 20, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=r"m\.pth is truncated or no state dict"):
            load_state_dict(path)
    with pytest.raises(FileNotFoundError, match="make data"):
        load_state_dict(tmp_path / "other.pth")


class Harm:
    def __reduce__(self):
        return open, ("harm.txt", "w")


@SAVE
def test_nothing_is_run(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "m.pth", OrderedDict(x=Harm()), {})
    with pytest.raises(ValueError, match=r"io\.open has no place in a state dict"):
        load_state_dict(tmp_path / "m.pth")
    pickled = pickle.dumps(Harm())
    (tmp_path / "plain.pth").write_bytes(pickled)  # in place of the magic number
    with pytest.raises(ValueError, match="no place"):
        load_state_dict(tmp_path / "plain.pth")
    assert not (tmp_path / "harm.txt").exists()


def test_another_magic_number_and_views_of_storages(tmp_path):
    path = tmp_path / "m.pth"
    path.write_bytes(pickle.dumps(7) * 5)
    with pytest.raises(ValueError, match="magic number"):
        load_state_dict(path)
    tensors, storages = whole({"x": np.zeros(3, "<f4")})
    head = b"".join(pickle.dumps(v, protocol=2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    path.write_bytes(head + dumps(tensors, storages, metadata=(("0", 0, 3),)))
    with pytest.raises(ValueError, match="no storage of its own"):
        load_state_dict(path)
