"""Converts the seeded model goldens/models/sd1 with torch and coremltools in the form of Apple's converter, for tests on packages that Gesso did
not make.

usage: apple_style.py FIXTURES   (the folder `fixtures`; writes FIXTURES/apple)

Form: every linear layer of the UNet is a 1x1 convolution over [B, C, 1, S], LayerNorm is written out with its bias divided by its weight,
attention is SPLIT_EINSUM or ORIGINAL, ids of the text encoder are floats, the target is macOS 13. Module names are diffusers' own. Unlike in
Apple's packages the sinusoid of the time is computed in fp32, so that the goldens' figures are those of the rest.
Needs torch 2.7.0, transformers 4.57.1, coremltools 9.0.
"""

import json
import math
import pathlib
import shutil
import sys
import tempfile

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import CLIPTextModel

torch.set_grad_enabled(False)


class Norm(nn.Module):
    """LayerNorm over the channels of [B, C, 1, S]."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        z = x - x.mean(dim=1, keepdim=True)
        y = z * ((z * z).mean(dim=1, keepdim=True) + 1e-5).rsqrt()
        return (y + self.bias.view(1, -1, 1, 1)) * self.weight.view(1, -1, 1, 1)


class Attention(nn.Module):
    def __init__(self, c, context, heads, flavour):
        super().__init__()
        self.heads, self.width, self.flavour = heads, c // heads, flavour
        self.to_q = nn.Conv2d(c, c, 1, bias=False)
        self.to_k = nn.Conv2d(context, c, 1, bias=False)
        self.to_v = nn.Conv2d(context, c, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(c, c, 1))

    def forward(self, x, context):
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        b, w, scale = q.shape[0], self.width, self.width**-0.5
        if self.flavour == "ORIGINAL":
            q, k, v = (t.view(b, self.heads, w, -1) for t in (q, k, v))
            a = torch.einsum("bhcq,bhck->bhqk", [q, k]) * scale
            out = torch.einsum("bhqk,bhck->bhcq", [a.softmax(dim=3), v]).contiguous().view(b, self.heads * w, 1, -1)
            return self.to_out(out)
        cuts = [slice(h * w, (h + 1) * w) for h in range(self.heads)]
        k = k.transpose(1, 3)
        scores = [torch.einsum("bchq,bkhc->bkhq", [q[:, s], k[:, :, :, s]]) * scale for s in cuts]
        parts = [torch.einsum("bkhq,bchk->bchq", [a.softmax(dim=1), v[:, s]]) for a, s in zip(scores, cuts)]
        return self.to_out(torch.cat(parts, dim=1))


class Geglu(nn.Module):
    def __init__(self, c, inner):
        super().__init__()
        self.proj = nn.Conv2d(c, 2 * inner, 1)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.Sequential(Geglu(c, 4 * c), nn.Identity(), nn.Conv2d(4 * c, c, 1))

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    def __init__(self, c, context, heads, flavour):
        super().__init__()
        self.norm1, self.attn1 = Norm(c), Attention(c, c, heads, flavour)
        self.norm2, self.attn2 = Norm(c), Attention(c, context, heads, flavour)
        self.norm3, self.ff = Norm(c), FeedForward(c)

    def forward(self, x, context):
        y = self.norm1(x)
        x = self.attn1(y, y) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    def __init__(self, c, context, heads, groups, flavour):
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, eps=1e-6)
        self.proj_in = nn.Conv2d(c, c, 1)
        self.transformer_blocks = nn.ModuleList([Block(c, context, heads, flavour)])
        self.proj_out = nn.Conv2d(c, c, 1)

    def forward(self, x, context):
        b, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).view(b, c, 1, h * w)
        for block in self.transformer_blocks:
            y = block(y, context)
        return self.proj_out(y.view(b, c, h, w)) + x


class Resnet(nn.Module):
    def __init__(self, i, o, time, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, i), nn.Conv2d(i, o, 3, padding=1)
        self.time_emb_proj = nn.Conv2d(time, o, 1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, o), nn.Conv2d(o, o, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(i, o, 1) if i != o else None

    def forward(self, x, t):
        y = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(t))
        y = self.conv2(F.silu(self.norm2(y)))
        return (self.conv_shortcut(x) if self.conv_shortcut is not None else x) + y


class Sampler(nn.Module):
    def __init__(self, c, stride):
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(c, c, 3, stride=stride, padding=1)

    def forward(self, x):
        return self.conv(x if self.stride == 2 else F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Module):
    """A down, middle or up block."""

    def __init__(self, resnets, attentions=None, downsamplers=None, upsamplers=None):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions or [])
        self.downsamplers = nn.ModuleList(downsamplers or [])
        self.upsamplers = nn.ModuleList(upsamplers or [])


class TimeEmbedding(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Conv2d(i, o, 1), nn.Conv2d(o, o, 1)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x[:, :, None, None])))


class Unet(nn.Module):
    def __init__(self, config, flavour):
        super().__init__()
        widths, groups = config["block_out_channels"], config["norm_num_groups"]
        layers, heads, context = config["layers_per_block"], config["attention_head_dim"], config["cross_attention_dim"]
        self.channels = widths[0]
        time = 4 * widths[0]
        attends = lambda word: "CrossAttn" in word
        transformer = lambda c: Transformer(c, context, heads, groups, flavour)
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], time)
        self.down_blocks, self.up_blocks, skips = nn.ModuleList(), nn.ModuleList(), [widths[0]]
        c = widths[0]
        for n, (word, o) in enumerate(zip(config["down_block_types"], widths)):
            resnets = [Resnet(c if j == 0 else o, o, time, groups) for j in range(layers)]
            last = n + 1 == len(widths)
            self.down_blocks.append(
                Stage(resnets, [transformer(o) for _ in resnets] if attends(word) else None, None if last else [Sampler(o, 2)])
            )
            skips += [o] * (layers + (not last))
            c = o
        self.mid_block = Stage([Resnet(c, c, time, groups) for _ in range(2)], [transformer(c)])
        for n, (word, o) in enumerate(zip(config["up_block_types"], reversed(widths))):
            resnets = [Resnet((c if j == 0 else o) + skips.pop(), o, time, groups) for j in range(layers + 1)]
            last = n + 1 == len(widths)
            self.up_blocks.append(
                Stage(resnets, [transformer(o) for _ in resnets] if attends(word) else None, None, None if last else [Sampler(o, 1)])
            )
            c = o
        self.conv_norm_out = nn.GroupNorm(groups, c)
        self.conv_out = nn.Conv2d(c, config["out_channels"], 3, padding=1)

    def forward(self, sample, timestep, encoder_hidden_states):
        half = self.channels // 2
        table = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angle = timestep[:, None].float() * table[None, :]
        t = self.time_embedding(torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            for j, resnet in enumerate(block.resnets):
                x = resnet(x, t)
                if len(block.attentions):
                    x = block.attentions[j](x, encoder_hidden_states)
                skips.append(x)
            for sampler in block.downsamplers:
                x = sampler(x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, t)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x, encoder_hidden_states), t)
        for block in self.up_blocks:
            for j, resnet in enumerate(block.resnets):
                x = resnet(torch.cat([x, skips.pop()], dim=1), t)
                if len(block.attentions):
                    x = block.attentions[j](x, encoder_hidden_states)
            for sampler in block.upsamplers:
                x = sampler(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def unet(folder, flavour):
    config = json.loads((folder / "config.json").read_text())
    model = Unet(config, flavour).eval()
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    state = {name: tensor.float() for name, tensor in state.items()}
    for name in list(state):
        wanted = model.state_dict()[name].shape
        if "transformer_blocks" in name and ".norm" in name and name.endswith(".bias"):
            state[name] = state[name] / state[name.replace(".bias", ".weight")]
        state[name] = state[name].reshape(wanted)
    model.load_state_dict(state)
    return model


class TextEncoder(nn.Module):
    def __init__(self, text_encoder):
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids):
        return self.text_encoder(input_ids, return_dict=False)


def half(op):
    """All but the sinusoid of the time is computed in fp16."""
    return op.op_type not in ("sin", "cos") and op.name != "angle"


def convert(name, model, inputs, outputs, path, traced_with=None):
    traced = torch.jit.trace(model.eval(), traced_with or tuple(inputs.values()), check_trace=False)
    dtype = np.float32 if name == "text_encoder" else np.float16
    package = ct.convert(
        traced,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.macOS13,
        inputs=[ct.TensorType(name=k, shape=v.shape, dtype=np.float32 if k == "timestep" else dtype) for k, v in inputs.items()],
        outputs=[ct.TensorType(name=n, dtype=np.float32) for n in outputs],
        compute_precision=ct.transform.FP16ComputePrecision(op_selector=half),
        compute_units=ct.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
    )
    package.author, package.version = "the Gesso project", "goldens/models/sd1"
    save(package, path / f"Stable_Diffusion_version_sd1_{name}.mlpackage")
    return package


def save(package, path):
    if path.exists():
        shutil.rmtree(path)
    package.save(str(path))


def original(model, inputs, out):
    """Keeps the model file alone: the weight file is that of the split form, byte for byte."""
    with tempfile.TemporaryDirectory() as scratch:
        convert("unet", model, inputs, ["noise_pred"], pathlib.Path(scratch))
        inside = pathlib.Path("Stable_Diffusion_version_sd1_unet.mlpackage", "Data", "com.apple.CoreML")
        weights = inside / "weights" / "weight.bin"
        assert (scratch / weights).read_bytes() == (out / weights).read_bytes()
        shutil.copy(scratch / inside / "model.mlmodel", out / "original" / "model.mlmodel")


def main():
    fixtures = pathlib.Path(sys.argv[1])
    base, out = fixtures / "goldens" / "models" / "sd1", fixtures / "apple"
    torch.manual_seed(0)
    folders = [out, out / "palettized"]
    for folder in [*folders, out / "original"]:
        folder.mkdir(exist_ok=True)
    inputs = {
        "sample": torch.rand(1, 4, 16, 24),
        "timestep": torch.tensor([487.25]),
        "encoder_hidden_states": torch.rand(1, 32, 1, 77),
    }
    split = convert("unet", unet(base / "unet", "SPLIT_EINSUM"), inputs, ["noise_pred"], folders[0])
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="kmeans", nbits=6))
    save(cto.palettize_weights(split, config), folders[1] / "Stable_Diffusion_version_sd1_unet.mlpackage")
    original(unet(base / "unet", "ORIGINAL"), inputs, out)

    text = CLIPTextModel.from_pretrained(base / "text_encoder", torch_dtype=torch.float32, attn_implementation="eager")
    ids = torch.randint(0, 998, (1, 77)).float()
    convert("text_encoder", TextEncoder(text), {"input_ids": ids}, ["last_hidden_state", "pooled_outputs"], folders[0], (ids.to(torch.int32),))


main()
