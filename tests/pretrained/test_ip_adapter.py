"""IP-Adapter files: diffusers' order of attentions, the published count, and files byte for byte."""

import math

import numpy as np
import pytest
from test_stable_diffusion import fixture

from diffjax.formats.tensors import read_tensors, write_tensors
from diffjax.nn import presets
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import ip_adapter
from diffjax.pretrained.stable_diffusion.names import hub_name

ORDER = [  # of diffusers 0.42: [name for name in unet.attn_processors if "attn2" in name], of the fixture "sdxl"
    "down_blocks.1.attentions.0.transformer_blocks.0", "down_blocks.2.attentions.0.transformer_blocks.0",
    "down_blocks.2.attentions.0.transformer_blocks.1", "up_blocks.0.attentions.0.transformer_blocks.0",
    "up_blocks.0.attentions.0.transformer_blocks.1", "up_blocks.0.attentions.1.transformer_blocks.0",
    "up_blocks.0.attentions.1.transformer_blocks.1", "up_blocks.1.attentions.0.transformer_blocks.0",
    "up_blocks.1.attentions.1.transformer_blocks.0", "mid_block.attentions.0.transformer_blocks.0",
    "mid_block.attentions.0.transformer_blocks.1",
]  # fmt: skip
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net():
    return fixture("sdxl")[0]


@pytest.fixture
def tensors(net):
    layout = ip_adapter.ip_adapter_layout(net, 2, 5)
    return {name: RNG.normal(size=stored.shape).astype(np.float16) for name, stored in layout.items()}


def test_sites_are_counted_as_pytorch_does(net):
    names = [hub_name(net, f"{site}/key/kernel") for site in ip_adapter.cross_attentions(net)]
    assert names == [f"{place}.attn2.to_k.weight" for place in ORDER]


def test_version_1_has_22_million_parameters():
    layout = ip_adapter.ip_adapter_layout(presets.sd1())
    assert sum(math.prod(stored.shape) for stored in layout.values()) == 22_319_616
    assert [n for n in layout if "to_k" in n] == [f"ip_adapter.{i}.to_k_ip.weight" for i in range(1, 32, 2)]
    assert layout["ip_adapter.1.to_k_ip.weight"].shape == (320, 768)
    assert layout["ip_adapter.31.to_v_ip.weight"].shape == (1280, 768)  # the middle's


def test_a_file_comes_back_byte_for_byte(net, tensors, tmp_path):
    write_tensors(tmp_path / "a.safetensors", tensors)
    params, notes = sd.read_ip_adapter(tmp_path / "a.safetensors", net)
    assert notes == () and params["params"]["image"]["dense"]["kernel"].shape == (5, 2 * net.context_width)
    up = params["params"]["unet"]["up2_attention1"]["block1"]["cross"]["value"]["kernel"]
    np.testing.assert_array_equal(up, tensors["ip_adapter.13.to_v_ip.weight"].T)
    sd.write_ip_adapter(tmp_path / "b.safetensors", net, params)
    back = read_tensors(tmp_path / "b.safetensors")
    assert back.keys() == tensors.keys() and all(x.tobytes() == tensors[n].tobytes() for n, x in back.items())


def test_other_files_are_refused(net, tensors, tmp_path):
    def refused(message, changes, net=net):
        file = tmp_path / "a.safetensors"
        write_tensors(file, {n: x for n, x in (tensors | changes).items() if x is not None})
        with pytest.raises(ValueError, match=message):
            sd.read_ip_adapter(file, net)

    one = np.zeros((1, 2), np.float16)
    refused("of the kind 'plus'", {"image_proj.latents": one})
    refused("of the kind 'FaceID'", {"ip_adapter.0.to_q_lora.down.weight": one})
    refused("of the kind 'full face'", {"image_proj.proj.0.weight": one})
    refused("'image_proj.proj.weight' is absent, but tokens of 6 channels", {"image_proj.proj.weight": None})
    refused("lacks 'ip_adapter.3.to_k_ip.weight'", {"ip_adapter.3.to_k_ip.weight": None})
    refused(r"holds 'ip_adapter.23.to_k_ip.weight'", {"ip_adapter.23.to_k_ip.weight": one})
    refused("'ip_adapter.1.to_v_ip.weight' has the shape .1, 2., but the network needs", {"ip_adapter.1.to_v_ip.weight":
                                                                                         one})  # fmt: skip
    refused("tokens of 768 channels are needed", {}, presets.sd1())
    with pytest.raises(ValueError, match="pickle"):
        sd.read_ip_adapter(tmp_path / "a.bin", net)
