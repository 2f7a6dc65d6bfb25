"""Verbs of the command line: purpose and example command of each."""

from __future__ import annotations

_RUN = "--config=photos --workdir=runs/photos --config.data.directory=FOLDER"

# verb -> (purpose, example command). The module of a verb has its name, with "_" for "-".
# Nothing is imported here, so that the help text appears at once.
VERBS: dict[str, tuple[str, str]] = {
    "segment": (
        "segment images, folders or videos by class names",
        'zeroseg segment photo.jpg --words "dog, sofa"',
    ),
    "serve": ("serve a local web page for segmentation", "zeroseg serve --model=tipsv2-b14"),
    "models": ("list the public models known by name", "zeroseg models"),
    "check-model": (
        "check a model's weights, tokens and published score",
        "zeroseg check-model clip-b16 --data_dir=VOC",
    ),
    "prepare": ("encode all images once with the teacher", f"zeroseg prepare {_RUN}"),
    "plan": (
        "estimate memory and time of a run before renting chips",
        "zeroseg plan --config=imagenet --topology=v5e:8x8",
    ),
    "train": ("train a student from the bank, or resume", f"zeroseg train {_RUN}"),
    "sweep": (
        "train a recipe with several settings",
        "zeroseg sweep --config=playground --workdir=runs/sweep",
    ),
    "evaluate": (
        "score a model on a benchmark",
        "zeroseg evaluate --workdir=runs/photos --benchmark=playground/things --output=report",
    ),
    "compare": (
        "compare reports, with bootstrap intervals",
        "zeroseg compare report-a report-b --output=comparison",
    ),
    "reproduce-baselines": (
        "measure published scores again",
        "zeroseg reproduce-baselines --data_dir=DATA --output=baselines",
    ),
    "robustness": (
        "score a model under other class names",
        "zeroseg robustness --workdir=playground --output=robustness",
    ),
    "vote": (
        "label segments by a large vocabulary; write a page for human votes",
        "zeroseg vote FOLDER --output=votes",
    ),
    "verify": (
        "check a data set on disk by decoding every file",
        "zeroseg verify --benchmark=voc21 --data_dir=DATA",
    ),
    "export": (
        "export a model as safetensors or StableHLO",
        "zeroseg export --workdir=runs/photos --output=student --format=stablehlo",
    ),
    "demo": (
        "prepare, train and score a student on the Playground",
        "zeroseg demo --workdir=runs/demo",
    ),
    "convert_teacher": (
        "convert a CLIP from torch files to safetensors",
        "zeroseg convert_teacher ViT-B-32.pt --output=clips/openai-b32",
    ),
    "pretrain_clip": (
        "train the Playground's CLIP (for maintainers)",
        "zeroseg pretrain_clip --output=runs/clip",
    ),
    "completion": (
        "print shell completion for bash, zsh or fish",
        "zeroseg completion bash > ~/.local/share/bash-completion/completions/zeroseg",
    ),
}
