"""Runs Stable Diffusion 1.5's networks in torch, fp32, on request: torch's side of `cargo xtask bench engine`.

Weights are random: the time does not depend on them. Each line of standard input is `NAME THREADS`, with NAME one of
gemm, unet, vae, text, or `loop STEPS THREADS` for a whole picture with guidance. The answer is one line: seconds by the
clock, seconds of CPU time.

usage: bench_torch.py DIFFUSERS_FOLDER   (only its config.json files are read)
"""

import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

folder = Path(sys.argv[1])
torch.manual_seed(0)
torch.set_grad_enabled(False)

unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")).eval()
vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")).eval()
text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")).eval()
latents = torch.randn(2, 4, 64, 64)
states = torch.randn(2, 77, 768)
tokens = torch.randint(0, 49000, (1, 77))
square = torch.randn(4096, 4096)


def loop(steps):
    """Both prompts, `steps` guided steps, and the picture."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    scheduler.set_timesteps(steps)
    both = torch.cat([text(tokens)[0], text(tokens)[0]])
    x = latents[:1].clone()
    for t in scheduler.timesteps:
        without, with_prompt = unet(torch.cat([x, x]), t, both).sample.chunk(2)
        x = scheduler.step(without + 7.5 * (with_prompt - without), t, x).prev_sample
    return vae.decode(x / 0.18215).sample


runs = {
    "gemm": lambda: square @ square,
    "unet": lambda: unet(latents, torch.tensor([981, 981]), states).sample,
    "vae": lambda: vae.decode(latents[:1]).sample,
    "text": lambda: text(tokens)[0],
}
print("ready", flush=True)
for line in sys.stdin:
    name, *steps, threads = line.split()
    torch.set_num_threads(int(threads))
    run = (lambda: loop(int(steps[0]))) if name == "loop" else runs[name]
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    print(f"{time.perf_counter() - wall:.4f} {time.process_time() - cpu:.4f}", flush=True)
