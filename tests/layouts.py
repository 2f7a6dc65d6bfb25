"""Small data sets in the layouts that the official archives unpack to, with known labels."""

import json
import zlib

import numpy as np
from PIL import Image

from zeroseg_jax.data.benchmarks import context, imagenet_s
from zeroseg_jax.data.benchmarks.word_lists import load_imagenet_words

CONTEXT_IDS = (0, 2, 9, 18, 458)  # category ids of train ids 0, 1, 2, 3 and 59
SIZE = (12, 17)


def save(array, path, palette=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **options)


def draw(values, seed, size=SIZE):
    """A mask that holds all of `values`, in blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.resize(np.asarray(values), size[0] * size[1] // 4))
    flat = np.resize(np.repeat(blocks, 4), size)
    flat.ravel()[: len(values)] = values
    return flat


def picture(path, seed=0, size=SIZE):
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    save(array, path)
    return array


def voc_palette():
    """The colours of VOC: the bits of an index spread over the three channels."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * k + channel)) & 1 for k in range(3)]
            colours.append(sum(bit << (7 - k) for k, bit in enumerate(bits)))
    return colours


def write_voc(root, values=(0, 1, 15, 20, 255), names=("2007_000033", "2008_000002")):
    """Write VOC 2012; return the raw mask of each name."""
    devkit = root / "VOCdevkit" / "VOC2012"
    masks = {}
    for seed, name in enumerate(names):
        masks[name] = draw(values, seed).astype(np.uint8)
        picture(devkit / "JPEGImages" / f"{name}.jpg", seed)
        save(masks[name], devkit / "SegmentationClass" / f"{name}.png", voc_palette())
    split = devkit / "ImageSets" / "Segmentation" / "val.txt"
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text("\n".join(names) + "\n")
    return masks


def runs_of(mask):
    """Run lengths of a mask, column by column, beginning with zeros."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return runs if flat[0] == 0 else [0, *runs]


def letters_of(runs):
    """Run lengths in COCO's letters: five bits a letter, differences from the fourth on."""
    letters = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            letters += chr(48 + bits + 0x20 * more)
            if not more:
                break
    return letters


def write_context(root, names=("2008_000002", "2008_000003")):
    """Write VOC 2010 and its annotations, runs in both forms; return train ids of each name."""
    devkit = root / "VOCdevkit" / "VOC2010"
    images, regions, labels = [], [], {}
    for number, name in enumerate((*names, "2008_000099")):
        picture(devkit / "JPEGImages" / f"{name}.jpg", number)
        mask = draw(range(len(CONTEXT_IDS)), number)
        phase = "val" if name in names else "train"
        images.append({"image_id": 100 + number, "file_name": f"{name}.jpg", "phase": phase,
                       "height": SIZE[0], "width": SIZE[1]})  # fmt: skip
        for k, category in list(enumerate(CONTEXT_IDS))[1:]:
            runs = runs_of(mask == k)
            counts = letters_of(runs) if k % 2 else runs
            regions.append({"id": len(regions), "image_id": 100 + number, "category_id": category,
                            "segmentation": {"size": list(SIZE), "counts": counts}})  # fmt: skip
        if phase == "val":
            labels[name] = np.asarray((0, 1, 2, 3, 59))[mask]
    content = {"images": images, "annos_segmentation": regions}
    (devkit / "trainval_merged.json").write_text(json.dumps(content))
    return labels


def write_coco(root, values=(0, 10, 12, 89, 91, 181, 255), names=("000000000139", "000000000285")):
    """Write val2017 with its maps in the same folder, as both archives unpack."""
    masks = {}
    for seed, name in enumerate(names):
        masks[name] = draw(values, seed).astype(np.uint8)
        picture(root / "val2017" / f"{name}.jpg", seed)
        save(masks[name], root / "val2017" / f"{name}.png")
    return masks


def write_ade(root, values=(0, 1, 2, 150), names=("ADE_val_00000001", "ADE_val_00000002")):
    base, masks = root / "ADEChallengeData2016", {}
    for seed, name in enumerate(names):
        masks[name] = draw(values, seed).astype(np.uint8)
        picture(base / "images" / "validation" / f"{name}.jpg", seed)
        save(masks[name], base / "annotations" / "validation" / f"{name}.png")
    return masks


def write_cityscapes(root, values=(0, 7, 8, 9, 26, 33)):
    masks = {}
    for seed, town in enumerate(("frankfurt", "lindau")):
        name = f"{town}_000000_00029{seed}"
        masks[name] = draw(values, seed).astype(np.uint8)
        picture(root / "leftImg8bit" / "val" / town / f"{name}_leftImg8bit.png", seed)
        folder = root / "gtFine" / "val" / town
        save(masks[name], folder / f"{name}_gtFine_labelIds.png")
        save(masks[name] * 0 + 255, folder / f"{name}_gtFine_instanceIds.png")
    return masks


def write_imagenet_s(root, wnids, folder="ImageNetS50", values=(0, 1, 50, 1000), pictures=2):
    """Write a split whose first classes have a picture each; return the raw ids."""
    base, masks = root / folder, {}
    for number, wnid in enumerate(wnids):
        for part in ("validation", "validation-segmentation"):
            (base / part / wnid).mkdir(parents=True, exist_ok=True)
        if number < pictures:
            name = f"ILSVRC2012_val_{number:08d}"
            masks[name] = draw(values, number)
            rgb = np.stack([masks[name] % 256, masks[name] // 256, masks[name] * 0], axis=-1)
            picture(base / "validation" / wnid / f"{name}.JPEG", number)
            save(rgb.astype(np.uint8), base / "validation-segmentation" / wnid / f"{name}.png")
    return masks


def write_folder(root, words=("cat", "dog; hound", "grass"), values=(0, 1, 2, 255), count=2,
                 dtype=np.uint8):  # fmt: skip
    masks = {}
    for seed in range(count):
        masks[f"p{seed}"] = draw(values, seed).astype(dtype)
        picture(root / "images" / f"p{seed}.jpg", seed)
        save(masks[f"p{seed}"], root / "masks" / f"p{seed}.png")
    (root / "words.txt").write_text("\n".join(words) + "\n")
    return masks


def write(name, root, **options):
    """Write the fixture of any benchmark, converted where it must be; return its masks."""
    if name in imagenet_s.SPLITS:
        folder, classes, _ = imagenet_s.SPLITS[name]
        return write_imagenet_s(root, sorted(load_imagenet_words())[:classes], folder, **options)
    writers = {"voc": write_voc, "context": write_context, "coco": write_coco, "ade": write_ade,
               "cityscapes": write_cityscapes, "folder": write_folder}  # fmt: skip
    (writer,) = (writer for start, writer in writers.items() if name.startswith(start))
    masks = writer(root, **options)
    if writer is write_context:
        context.convert(root, log=lambda line: None)
    return masks


def grey_png(values, bits, path):
    """Write a grey PNG of 1, 2, 4, 8 or 16 bits by hand."""
    height, width = values.shape
    rows = []
    for row in values:
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(b"\0" + int(text, 2).to_bytes(len(text) // 8, "big"))

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def check_labels(benchmark, raw, table):
    """Compare a benchmark's labels with raw ones by name, mapped one by one."""
    assert len(benchmark) == len(raw)
    for i, name in enumerate(sorted(raw)):
        item = benchmark[i]
        assert item["name"] == name
        assert item["image"].dtype == np.uint8 and item["image"].shape == (*raw[name].shape, 3)
        assert item["label"].dtype == np.int32
        np.testing.assert_array_equal(item["label"], np.vectorize(table.__getitem__)(raw[name]))
    assert len(benchmark.class_names) == len(benchmark.words) + benchmark.has_background
