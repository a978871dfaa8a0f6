"""Data sets and the batches made of them."""

from diffjax.data.image_data import ImageData, default_data_dir
from diffjax.data.pipeline import batches, dataset
from diffjax.data.sources import image_shape, load
from diffjax.data.toys import checkerboard, eight_gaussians, rings, swiss_roll, two_moons
from diffjax.data.units import to_float, to_uint8

__all__ = [
    "ImageData",
    "batches",
    "checkerboard",
    "dataset",
    "default_data_dir",
    "eight_gaussians",
    "image_shape",
    "load",
    "rings",
    "swiss_roll",
    "to_float",
    "to_uint8",
    "two_moons",
]
