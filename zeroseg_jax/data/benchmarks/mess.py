"""Data sets of the MESS collection (Blumenstiel et al., NeurIPS 2023), in their official layouts.

Fourteen of its 22: those whose files can still be downloaded and need neither tiling nor other
sensors' bands. Splits, classes and class names are those of MESS, which names the background as a
class ("others", "background"), so that every class is scored by its name. Masks are read as
published; MESS converts them first, to the same labels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from zeroseg_jax.data.benchmarks.cityscapes import EVALUATED
from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    LayoutError,
    build_benchmark,
    find_root,
    match,
    read_split,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, MaskError, build_table, read_index
from zeroseg_jax.data.folders import is_hidden
from zeroseg_jax.data.transforms import open_image

_IGNORED = 255
_WHITE = 255
# DRAM has VOC's ids; classes that do not occur are background, the last class.
_DRAM = {v: i for i, v in enumerate((3, 4, 5, 8, 9, 10, 12, 13, 15, 16, 17))}
# Colours of SUIM in the order of class ids: black, blue, green, sky, red, pink, yellow, white.
_SUIM = tuple((r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255))
_CWFID = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
_CWFID_TEST = (1, 3, 4, 9, 10, 13, 15, 21, 22, 26, 28, 29, 30, 32, 35, 39, 44, 47, 48, 54, 60)
_CHASE_TRAIN = 8  # the first images are for training


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set of the collection.

    Attributes:
      folder: folder that its archive unpacks to.
      images, masks: folders of the split below it.
      image_ending, mask_ending: ends of the file names.
      ids: class id of each raw value.
      official: number of images of the split.
      archive: files to unpack, for error messages.
      ignored: raw values of ignored pixels.
      reader: reader of a mask file; None for an index image.
      below: number of parent folders in an image's name; -1: files are not in subfolders.
    """

    folder: str
    images: str
    masks: str
    image_ending: str
    mask_ending: str
    ids: Mapping[int, int]
    official: int
    archive: str
    ignored: tuple[int, ...] = (_IGNORED,)
    reader: Callable[[Path], np.ndarray] | None = None
    below: int = -1


def _identity(classes: int) -> dict[int, int]:
    return {i: i for i in range(classes)}


def read_binary(path: Path, least: int = _WHITE) -> np.ndarray:
    """Read a mask of two colours, int32 (H, W): 1 where its first channel is at least `least`.

    Raises:
      ImageError: the file is unreadable.
    """
    with open_image(path) as image:
        values = np.asarray(image.convert("RGB") if image.mode != "L" else image)
    return ((values if values.ndim == 2 else values[..., 0]) >= least).astype(np.int32)


def read_colours(path: Path, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Read a mask whose colours are classes, int32 (H, W) of places in `colours`.

    Raises:
      ImageError: the file is unreadable.
      MaskError: the mask has another colour.
    """
    with open_image(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    codes = pixels @ np.array([1 << 16, 1 << 8, 1])
    known = np.array(colours) @ np.array([1 << 16, 1 << 8, 1])
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    if (wrong := known[order][place] != codes).any():
        colour = tuple(pixels[wrong][0].tolist())
        raise MaskError(f"{path}: colour {colour} is no class; unpack the masks again.")
    return order[place].astype(np.int32)


def read_valid(path: Path) -> np.ndarray:
    """Read Dark Zurich's label ids, with 255 where the invalid mask beside them is 255."""
    ids = read_index(path).copy()
    ids[read_index(path.with_name(path.name.replace("labelIds", "invGray"))) == _WHITE] = _IGNORED
    return ids


def read_bird(path: Path) -> np.ndarray:
    """Read a mask of CUB-200: the number of its folder's class where most annotators see a bird."""
    return read_binary(path, least=129) * int(path.parent.name.partition(".")[0])


SOURCES: dict[str, Source] = {
    "bdd100k": Source(
        "bdd100k", "images/10k/val", "labels/sem_seg/masks/val", ".jpg", ".png",
        _identity(19), 1000, "bdd100k_images_10k.zip and bdd100k_sem_seg_labels_trainval.zip",
    ),
    "dark_zurich": Source(
        "Dark_Zurich", "rgb_anon/val/night/GOPR0356", "gt/val/night/GOPR0356",
        "_rgb_anon.png", "_gt_labelIds.png", {v: i for i, v in enumerate((0, *EVALUATED))}, 50,
        "Dark_Zurich_val_anon.zip (in a folder Dark_Zurich)", reader=read_valid,
    ),
    "foodseg103": Source(
        "FoodSeg103", "Images/img_dir/test", "Images/ann_dir/test", ".jpg", ".png",
        _identity(104), 2135, "FoodSeg103.zip",
    ),
    "atlantis": Source(
        "atlantis", "images/test", "masks/test", ".jpg", ".png",
        {i + 1: i for i in range(56)}, 1295, "the folder atlantis of its repository",
        ignored=(0,), below=0,
    ),
    "dram": Source(
        "DRAM_processed", "test", "labels", ".jpg", ".png",
        {v: _DRAM.get(v, len(_DRAM)) for v in range(21)}, 718, "DRAM_processed.rar", below=1,
    ),
    "suim": Source(
        "SUIM", "TEST/images", "TEST/masks", ".jpg", ".bmp", _identity(8), 110,
        "TEST.zip (in a folder SUIM)", reader=functools.partial(read_colours, colours=_SUIM),
    ),
    "pst900": Source(
        "PST900_RGBT_Dataset", "test/thermal", "test/labels", ".png", ".png", _identity(5), 288,
        "PST900_RGBT_Dataset.zip",
    ),
    "corrosion_cs": Source(
        "Corrosion Condition State Classification/original", "Test/images", "Test/masks",
        ".jpeg", ".png", _identity(4), 44, "the archive of Corrosion Condition State",
    ),
    "deepcrack": Source(
        "DeepCrack", "test_img", "test_lab", ".jpg", ".png", _identity(2), 237,
        "DeepCrack.zip (in a folder DeepCrack)", reader=read_binary,
    ),
    "chase_db1": Source(
        "CHASEDB1", "", "", ".jpg", "_1stHO.png", _identity(2), 20,
        "CHASEDB1.zip (in a folder CHASEDB1)",
        reader=functools.partial(read_binary, least=1),
    ),
    "kvasir_instrument": Source(
        "kvasir-instrument", "images", "masks", ".jpg", ".png", _identity(2), 118,
        "kvasir-instrument.zip, and the archives in it", reader=read_binary,
    ),
    "zerowaste": Source(
        "zerowaste-f", "splits_final_deblurred/test/data", "splits_final_deblurred/test/sem_seg",
        ".PNG", ".PNG", _identity(5), 929, "zerowaste-f-final.zip (in a folder zerowaste-f)",
    ),
    "cub_200": Source(
        "CUB_200_2011", "images", "segmentations", ".jpg", ".png", _identity(201), 5794,
        "CUB_200_2011.tgz, and segmentations.tgz in its folder", reader=read_bird, below=0,
    ),
    "cwfid": Source(
        "cwfid", "images", "annotations", "_image.png", "_annotation.png", _identity(3), 21,
        "its repository (as a folder cwfid)",
        reader=functools.partial(read_colours, colours=_CWFID),
    ),
}  # fmt: skip


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build a benchmark of SOURCES.

    Args:
      name: key of SOURCES.
      data_dir: folder in which the archive was unpacked.

    Raises:
      LayoutError: images, masks or the list of the split are missing.
    """
    source = SOURCES[name]
    root = find_root(
        data_dir,
        (source.images, source.masks),
        (source.folder, ""),
        f"unpack {source.archive} in {data_dir}.",
    )
    images = _list(root / source.images, source.image_ending, source.below)
    masks = _list(root / source.masks, source.mask_ending, source.below)
    if wanted := _SPLITS.get(name):
        names = set(wanted(root, sorted(images)))
        images, masks = ({k: v for k, v in d.items() if k in names} for d in (images, masks))
    return build_benchmark(
        name,
        listing=match(images, masks, root / source.masks, ending=source.mask_ending),
        encoding=Encoding(build_table(source.ids, source.ignored), source.reader),
        official_images=(source.official,),
    )


def _list(folder: Path, ending: str, below: int) -> dict[str, Path]:
    """Return the files with an ending by name; with `below`, also those of subfolders."""
    files = folder.iterdir() if below < 0 else folder.rglob("*")
    found: dict[str, Path] = {}
    for path in sorted(files):
        if path.name.lower().endswith(ending.lower()) and not is_hidden(path.name):
            parents = path.parent.parts[-below:] if below > 0 else ()
            found["_".join((*parents, path.name[: -len(ending)]))] = path
    return found


def _list_birds(root: Path, names: list[str]) -> Iterable[str]:
    files = dict(_read_pairs(root / "images.txt"))
    training = dict(_read_pairs(root / "train_test_split.txt"))
    return [Path(file).stem for number, file in files.items() if training.get(number) == "0"]


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise LayoutError(f"{path}: missing; unpack CUB_200_2011.tgz again.")
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if any(len(row) != 2 for row in rows):
        raise LayoutError(f"{path}: a line has not two words; unpack CUB_200_2011.tgz again.")
    return [(row[0], row[1]) for row in rows]


def _list_instruments(root: Path, names: list[str]) -> Iterable[str]:
    path = root / "test.txt"
    if not path.is_file():
        raise LayoutError(f"{path}: missing; unpack kvasir-instrument.zip again.")
    return read_split(path)


# Names of the split, where folders have more.
_SPLITS: dict[str, Callable[[Path, list[str]], Iterable[str]]] = {
    "chase_db1": lambda root, names: names[_CHASE_TRAIN:],
    "kvasir_instrument": _list_instruments,
    "cub_200": _list_birds,
    "cwfid": lambda root, names: [f"{number:03d}" for number in _CWFID_TEST],
}
