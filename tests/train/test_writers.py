import json
import struct

import jax
import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from diffjax.train.writers import Writer


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def board(workdir):
    """The (tag, step, value) of every TensorBoard record: length, its checksum, the event, its checksum."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + size])
            yield from ((value.tag, event.step, value) for value in event.summary.value)
            at += size + 16


def test_figures_go_to_the_lines_and_to_the_board(tmp_path):
    with Writer(tmp_path) as writer:
        writer.scalars(10, {"loss": 0.5, "abs": 2.0})
        writer.scalars(20, {"loss": 0.25, "abs": 1.0})
    assert lines(tmp_path) == [{"step": 10, "loss": 0.5, "abs": 2.0}, {"step": 20, "loss": 0.25, "abs": 1.0}]
    found = {(tag, step): value.simple_value for tag, step, value in board(tmp_path)}
    assert found == {("loss", 10): 0.5, ("abs", 10): 2.0, ("loss", 20): 0.25, ("abs", 20): 1.0}


def test_pictures_go_to_files_and_to_the_board(tmp_path):
    rng = np.random.default_rng(0)
    images = {"colour": rng.integers(0, 256, (4, 6, 3), np.uint8), "grey": rng.integers(0, 256, (4, 6, 1), np.uint8)}
    with Writer(tmp_path) as writer:
        writer.images(30, images)
    for name, image in images.items():
        read = np.asarray(Image.open(tmp_path / "samples" / f"{name}_0000030.png"))
        np.testing.assert_array_equal(read.reshape(image.shape), image)
    shown = {tag: (step, value.image.height, value.image.width) for tag, step, value in board(tmp_path)}
    assert shown == {"colour": (30, 4, 6), "grey": (30, 4, 6)}


def test_a_resumed_run_drops_later_lines_and_a_torn_one(tmp_path):
    with Writer(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    with Writer(tmp_path, 20) as writer:
        writer.scalars(30, {"loss": 2.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Writer(tmp_path / "run") as writer:
        writer.scalars(1, {"loss": 1.0})
        writer.images(1, {"x": np.zeros((2, 2, 3), np.uint8)})
    assert not (tmp_path / "run").exists()
