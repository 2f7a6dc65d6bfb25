"""Speed of a training step of the paper's student against the same arithmetic in torch.

    python -m bench.speed.train_step --output=docs/results/train_step.json

The torch side combines modules of transformers (ViTMAE's encoder and decoder, GroupViT's stages)
with the losses. Both sides take a forward pass, a backward pass and an AdamW update of ViT-B/16 at
224 px, mask ratio 0.6, float32, on the CPU. They alternate, and the median over rounds counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import median_seconds, time_in_turns
from zeroseg_jax.assets.recipes import imagenet
from zeroseg_jax.commands import flags
from zeroseg_jax.config import Config, ModelConfig, from_mapping
from zeroseg_jax.training import sharding, zeroseg
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.plan import costs
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("batch", 8, "batch size", lower_bound=1)
    absl_flags.DEFINE_integer("rounds", 3, "number of rounds after a warm-up", lower_bound=1)
    record.define_output("train_step")


def main(arguments: list[str]) -> None:
    """Time both sides and write the ratio."""
    del arguments
    raw = imagenet.get_config("vit_b16")
    raw.optim.update(batch_global=FLAGS.batch, steps=1000)
    raw.run.update(dtype="float32", scan_blocks=True)  # faster on a CPU
    raw.mesh.data = 1
    config = from_mapping(raw.to_dict())
    rng = np.random.default_rng(0)
    side = config.model.image_px
    batch = {
        "image": rng.integers(0, 255, (FLAGS.batch, side, side, 3), dtype=np.uint8),
        "features": rng.normal(size=(FLAGS.batch, 30, config.model.embed_dim)).astype(np.float16),
    }
    ours, flops = _build_ours(config, batch)
    sides = {"zeroseg_jax": ours, "torch": _build_torch(config, batch)}
    rounds = time_in_turns(sides, FLAGS.rounds)
    rates = {name: FLAGS.batch / median_seconds(rounds, name) for name in sides}
    results = {
        "model": "ViT-B/16, 224 px, mask ratio 0.6, forward, backward and AdamW, float32",
        "batch": FLAGS.batch,
        "seconds": {name: [round(row[name]["wall"], 3) for row in rounds] for name in sides},
        "images_per_second": {name: round(rate, 3) for name, rate in rates.items()},
        "times_torch": round(rates["zeroseg_jax"] / rates["torch"], 3),
        "gflop_per_image": round(flops / FLAGS.batch / 1e9, 1),
    }
    record.write(results)
    print({key: results[key] for key in ("images_per_second", "times_torch", "gflop_per_image")})


def _build_ours(config: Config, batch: dict) -> tuple[Callable[[], float], int]:
    mesh = sharding.build_mesh(config)
    # Centring sets one bias at the start and costs nothing in a step.
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, centre=False))
    objective, optimizer = zeroseg.build_abstract(config), build_optimizer(config, 1000)
    shapes = jax.eval_shape(lambda: init_state(config, objective, optimizer))
    abstract_state = sharding.shard_state(shapes, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
    initial_state = jax.jit(
        lambda: init_state(config, objective, optimizer), out_shardings=shardings
    )
    step = build_step(config, objective, optimizer, mesh, abstract_state)
    placed = jax.device_put(batch, sharding.split(mesh))
    flops = costs.count_flops(step, abstract_state, placed)
    held = [initial_state()]

    def run() -> float:
        held[0], metrics = step(held[0], placed)
        return float(metrics["loss"])

    return run, flops


def _build_torch_mae(model: ModelConfig):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    return ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=model.encoder.width, num_hidden_layers=model.encoder.depth,
            num_attention_heads=model.encoder.heads, intermediate_size=4 * model.encoder.width,
            image_size=model.image_px, patch_size=model.encoder.patch_px,
            decoder_hidden_size=model.decoder.width, decoder_num_hidden_layers=model.decoder.depth,
            decoder_num_attention_heads=model.decoder.heads,
            decoder_intermediate_size=4 * model.decoder.width,
            mask_ratio=model.mask_ratio,
        )
    )  # fmt: skip


def build_torch_student(config: Config):
    """Return the paper's student as a torch module from pixels and features to the loss."""
    import torch
    from transformers import GroupViTVisionConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTEncoderLayer, GroupViTStage

    model, head = config.model, config.model.head
    mae = _build_torch_mae(config.model)
    vision = GroupViTVisionConfig(
        hidden_size=head.width, intermediate_size=4 * head.width, num_attention_heads=head.heads,
        assign_eps=1.0, assign_mlp_ratio=[0.5, 4], hidden_act="gelu",
    )  # fmt: skip

    class Student(torch.nn.Module):
        def __init__(self):
            super().__init__()
            first, second = head.segment_tokens
            one, two, three = head.stage_depths
            self.mae = mae
            self.embedding = torch.nn.Linear(model.encoder.width, head.width)
            self.stages = torch.nn.ModuleList(
                [
                    GroupViTStage(vision, one, 0, first, first),
                    GroupViTStage(vision, two, first, second, second),
                    GroupViTStage(vision, three, second, 0, 0),
                ]
            )
            self.norm = torch.nn.LayerNorm(head.width)
            self.segment_projection = torch.nn.Linear(head.width, model.embed_dim)
            self.global_block = GroupViTEncoderLayer(vision)
            self.global_norm = torch.nn.LayerNorm(head.width)
            self.global_mlp = torch.nn.Sequential(
                torch.nn.Linear(head.width, head.z_hidden),
                torch.nn.GELU(),
                torch.nn.Linear(head.z_hidden, model.embed_dim),
            )

        def forward(self, pixels, features):
            outputs = self.mae.vit(pixels)
            decoded = self.mae.decoder(outputs.last_hidden_state, outputs.ids_restore).logits
            target = self.mae.patchify(pixels)
            spread = target.var(dim=-1, keepdim=True)
            target = (target - target.mean(dim=-1, keepdim=True)) / (spread + 1e-6).sqrt()
            error = (decoded - target).square().mean(dim=-1)
            loss = (error * outputs.mask).sum() / outputs.mask.sum()
            x, tokens = self.embedding(outputs.last_hidden_state[:, 1:]), None
            for stage in self.stages:
                x, tokens = stage(x, tokens)[:2]
            g = self.segment_projection(self.norm(x))
            last = self.global_block(x, None)
            last = last[0] if isinstance(last, tuple) else last
            z = self.global_mlp(self.global_norm(last).mean(dim=1))
            distilled = (z[:, None] - features).abs().mean()
            nearest = torch.cdist(g, features[:, 1:], p=1).amin(dim=2).mean() / g.shape[-1]
            return loss + distilled + nearest

    return Student()


def _build_torch(config: Config, batch: dict) -> Callable[[], float]:
    import torch

    torch.manual_seed(0)
    student = build_torch_student(config).train()
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.data.mean, config.data.std))
    images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
    features = torch.from_numpy(batch["features"])

    def run() -> float:
        loss = student((images.float() / 255 - mean) / std, features.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


if __name__ == "__main__":
    flags.run(main, define_flags)
