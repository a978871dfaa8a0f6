"""File formats of parameters: safetensors (read and written), PyTorch's pickles and TensorFlow.js (read)."""

from diffjax.formats.safetensors import load_params as load_params
from diffjax.formats.safetensors import read_metadata as read_metadata
from diffjax.formats.safetensors import save_params as save_params
from diffjax.formats.tfjs import load_manifest as load_manifest
from diffjax.formats.torch_pickle import load_state_dict as load_state_dict
