"""Input speed: images per second and core from each source.

    python -m bench.speed.input --images=512 --output=docs/results/input.json

Seconds are CPU seconds of all threads (time.process_time), so other load does not count: images per
CPU second are images per second and core. The upper bound of every source that decodes is Pillow
alone on the same JPEGs.
"""

from __future__ import annotations

import io
import itertools
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from bench import record
from bench.speed.timing import least_seconds
from zeroseg_jax.commands import flags
from zeroseg_jax.data import bank, sources
from zeroseg_jax.data import packed_sources as archives
from zeroseg_jax.data.pipeline import build_train_iterator
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.data.records import encode_record
from zeroseg_jax.data.transforms import square_crop

_SIDE_PX, _VIEWS, _WIDTH = 224, 30, 768  # the paper's recipe with CLIP ViT-L/14
_BATCH = 64


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer(
        "images", 512, "number of images in each source", lower_bound=2 * _BATCH
    )
    absl_flags.DEFINE_integer(
        "rounds", 3, "number of timed calls; the fastest counts", lower_bound=1
    )
    record.define_output("input")


def main(arguments: list[str]) -> None:
    """Write every source, read it, record the rates."""
    del arguments
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = _write_sources(root)
        measures: dict[str, Callable[[], None]] = {
            "decode alone (Pillow)": lambda: _decode_alone(files),
            "folder": lambda: _read(sources.FolderSource(str(root / "folder"))),
            "arrayrecord": lambda: _read(
                archives.ArrayRecordSource(str(root / "records"), 0, 10**8)
            ),
            "tar": lambda: _read(archives.TarSource(str(root / "tar"), (".jpg",), 0, 10**8)),
            "bank, through the training pipeline": lambda: _read_bank(root / "bank"),
        }
        for name, measure in measures.items():
            rates[name] = round(FLAGS.images / least_seconds(measure, FLAGS.rounds)[1], 1)
            print(f"{name:36s} {rates[name]:10.1f} images/s and core", flush=True)
    limit = rates["decode alone (Pillow)"]
    results = {
        "jpeg_px": [500, 375],
        "images_per_second_and_core": rates,
        "share_of_decode_limit": {n: round(r / limit, 3) for n, r in rates.items()},
        "cores_for_5000_images_per_second_from_the_bank": round(
            5000 / rates["bank, through the training pipeline"], 2
        ),
    }
    record.write(results)


def _write_sources(root: Path) -> list[Path]:
    """Write the same JPEGs, of ImageNet's usual size, as files, records, a shard and a bank."""
    from array_record.python.array_record_module import ArrayRecordWriter

    for name in ("folder", "records", "tar"):
        (root / name).mkdir()
    writer = ArrayRecordWriter(str(root / "records" / "0.arrayrecord"), "group_size:1")
    rng = np.random.default_rng(0)
    records = []
    with tarfile.open(root / "tar" / "0.tar", "w") as archive:
        for i in range(FLAGS.images):
            scene, _ = scenes.render(scenes.build_scene(0, i % 32), 500)
            grain = rng.normal(0, 8, (375, 500, 1))  # photographs are not smooth
            image = np.clip(scene[:375] + grain, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=90)
            content = buffer.getvalue()
            (root / "folder" / f"{i:05d}.jpg").write_bytes(content)
            writer.write(content)
            member = tarfile.TarInfo(f"{i:05d}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            features = rng.normal(size=(_VIEWS, _WIDTH)).astype(np.float16)
            square = square_crop(image, _SIDE_PX)
            records.append(encode_record(i, str(i), square, features))
    writer.close()
    bank.begin_bank(root / "bank", {})
    bank.write_shard(root / "bank", 0, records, [])
    bank.finish_bank(root / "bank", 1, {})
    return sorted((root / "folder").iterdir())


def _decode_alone(files: list[Path]) -> None:
    for path in files:
        Image.open(path).convert("RGB")


def _read(source: sources.Source) -> None:
    """Read every image and cut its training square, as prepare and live training do."""
    for i in range(len(source)):
        square_crop(source[i]["image"], _SIDE_PX)


def _read_bank(directory: Path) -> None:
    iterator = build_train_iterator(bank.BankSource(directory), batch_per_host=_BATCH, seed=0)
    for batch in itertools.islice(iterator, FLAGS.images // _BATCH):
        assert batch["image"].shape == (_BATCH, _SIDE_PX, _SIDE_PX, 3)


if __name__ == "__main__":
    flags.run(main, define_flags)
