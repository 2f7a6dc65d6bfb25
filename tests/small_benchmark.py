"""Benchmark of a few random images of several sizes, for tests of evaluation."""

import numpy as np
from PIL import Image

NAMES = ("background", "star", "ring")


class SmallBenchmark:
    """Images of several sizes, so that batches of windows span images."""

    name, class_names, words = "small", NAMES, (("star",), ("ring", "hoop"))
    has_background = True

    def __init__(self, count=5):
        rng = np.random.default_rng(0)
        self.items = []
        for i in range(count):
            size = (96 + 20 * (i % 3), 96 + 61 * (i % 2))
            coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
            label = rng.integers(-1, 3, size).astype(np.int32)
            self.items.append({"image": image, "label": label, "name": f"picture-{i}"})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def write_predictions(folder, benchmark, bits=8):
    folder.mkdir(parents=True)
    for item in benchmark.items:
        labels = np.maximum(item["label"], 0).astype(np.uint8 if bits == 8 else np.uint16)
        Image.fromarray(labels).save(folder / f"{item['name']}.png")
