"""One-layer LoRA cases of old LyCORIS and of PEFT's IA3, in the form of fixtures/lora/fixtures.

usage: lora_old.py LYCORIS_1_9_0 LYCORIS_2_0_2 FOLDER   (folders of the unpacked source distributions of lycoris_lora)

Writes FOLDER/<case>.safetensors: base.weight (and base.bias), adapter.*, expected.weight (and expected.bias), f32.

  glora_old_*   GLoRA of LyCORIS 1.9.0, alpha = rank: its forward pass on the unit vectors (at another alpha that release
                multiplies twice with it)
  oft_diag_*    Diag-OFT of LyCORIS 2.0.2, whose state dict holds the rotations themselves: its merged weight
  peft_ia3_*    IA3 of PEFT 0.17.1: the merged layer; `in` is a feed-forward module
"""

import importlib
import pathlib
import sys
import types

import peft
import torch
from safetensors.torch import save_file

RANK = 4


def module(root, name, alias):
    """`lycoris.modules.<name>` of a source tree, without running the package's own start-up."""
    for package, path in [(alias, "lycoris"), (f"{alias}.modules", "lycoris/modules")]:
        stub = types.ModuleType(package)
        stub.__path__ = [str(pathlib.Path(root) / path)]
        sys.modules[package] = stub
    return importlib.import_module(f"{alias}.modules.{name}")


def layer(kernel, outputs=24, inputs=16, bias=True):
    if kernel == 0:
        return torch.nn.Linear(inputs, outputs, bias=bias)
    return torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


def randomize(parameters, spread):
    for p in parameters:
        torch.nn.init.normal_(p, std=spread)


def save(folder, case, base, adapter, weight, bias=None):
    tensors = {"base.weight": base.weight, "expected.weight": weight}
    if base.bias is not None:
        tensors["base.bias"] = base.bias
    if bias is not None:
        tensors["expected.bias"] = bias
    tensors |= {f"adapter.{k}": v for k, v in adapter.items()}
    tensors = {k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, str(pathlib.Path(folder) / f"{case}.safetensors"), {"case": case})


def glora(root, folder):
    kind = module(root, "glora", "lycoris_1").GLoRAModule
    for case, kernel in [("glora_old_linear", 0), ("glora_old_conv1x1", 1)]:
        base = layer(kernel)
        made = kind(case, base, lora_dim=RANK, alpha=RANK)
        randomize(made.parameters(), 0.3)
        made.apply_to()
        units = torch.eye(16)
        x = units if kernel == 0 else units[:, :, None, None]
        zero = torch.zeros_like(x[:1])
        columns = (base(x) - base(zero)).reshape(16, 24)
        base.forward = made.org_forward
        save(folder, case, base, made.state_dict(), columns.T.reshape(base.weight.shape))


def oft_diag(root, folder):
    kind = module(root, "diag_oft", "lycoris_2").DiagOFTModule
    cases = [("oft_diag_linear", 0, False), ("oft_diag_conv3x3", 3, False), ("oft_diag_linear_rescale", 0, True)]
    for case, kernel, rescaled in cases:
        base = layer(kernel)
        made = kind(case, base, lora_dim=RANK, rescaled=rescaled)
        randomize([made.oft_blocks], 0.3)
        if rescaled:
            torch.nn.init.uniform_(made.rescale, 0.5, 1.5)
        save(folder, case, base, made.custom_state_dict(), made.make_weight())


class Net(torch.nn.Module):
    def __init__(self, only):
        super().__init__()
        self.only = only


def ia3(folder):
    cases = [
        ("linear", 0, 24),
        ("linear_square", 0, 16),
        ("conv3x3", 3, 24),
        ("conv3x3_square", 3, 16),
    ]
    for shape, kernel, outputs in cases:
        for side in ["in", "out"]:
            case = f"peft_ia3_{shape}_{side}"
            base = layer(kernel, outputs)
            feedforward = ["only"] if side == "in" else []
            config = peft.IA3Config(target_modules=["only"], feedforward_modules=feedforward)
            model = peft.get_peft_model(Net(base), config)
            for name, p in model.named_parameters():
                if "ia3_l" in name:
                    torch.nn.init.uniform_(p, 0.5, 1.5)
            stored = peft.get_peft_model_state_dict(model)
            weight, bias = base.weight.clone(), base.bias.clone()
            merged = model.merge_and_unload().only
            base = types.SimpleNamespace(weight=weight, bias=bias)
            adapter = {name.removeprefix("base_model.model.only."): p for name, p in stored.items()}
            save(folder, case, base, adapter, merged.weight, merged.bias if side == "out" else None)


if __name__ == "__main__":
    first, second, folder = sys.argv[1:]
    torch.manual_seed(20240131)
    with torch.no_grad():
        glora(first, folder)
        oft_diag(second, folder)
        ia3(folder)
