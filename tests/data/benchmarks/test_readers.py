"""Every data set through its own reader, in the layout its archives unpack to."""

import dataclasses

import layouts
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.benchmarks import context, get_benchmark, rle
from zeroseg_jax.data.benchmarks.listing import LayoutError, SizeError
from zeroseg_jax.data.benchmarks.masks import MaskError, read_index
from zeroseg_jax.data.benchmarks.word_lists import (
    WORDS,
    load_imagenet_words,
    load_words,
    read_words,
)


def look_up(table, raw):
    return np.vectorize(table.__getitem__)(raw)


def check_labels(benchmark, raw, table):
    assert len(benchmark) == len(raw)
    for i, name in enumerate(sorted(raw)):
        item = benchmark[i]
        assert item["name"] == name
        assert item["image"].dtype == np.uint8 and item["image"].shape == (*raw[name].shape, 3)
        assert item["label"].dtype == np.int32
        np.testing.assert_array_equal(item["label"], look_up(table, raw[name]))
    assert len(benchmark.class_names) == len(benchmark.words) + benchmark.has_background


def test_voc_palette_is_read_as_indices(tmp_path):
    raw = layouts.write_voc(tmp_path)
    path = next((tmp_path / "VOCdevkit/VOC2012/SegmentationClass").iterdir())
    colours = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0)
    assert [224, 224, 192] in colours.tolist()  # what a reader of colours would see as void
    check_labels(get_benchmark("voc21", data_dir=tmp_path), raw,
                 {0: 0, 1: 1, 15: 15, 20: 20, 255: -1})  # fmt: skip
    twenty = get_benchmark("voc20", data_dir=tmp_path / "VOCdevkit")
    check_labels(twenty, raw, {0: -1, 1: 0, 15: 14, 20: 19, 255: -1})
    assert twenty.class_names[14] == "person" and not twenty.has_background
    assert get_benchmark("voc21", data_dir=tmp_path).class_names[:2] == ("background", "aeroplane")


def test_context_from_json(tmp_path):
    labels = layouts.write_context(tmp_path)
    with pytest.raises(LayoutError, match="--convert"):
        get_benchmark("context60", data_dir=tmp_path)
    assert context.convert(tmp_path, log=lambda line: None) == 2
    check_labels(get_benchmark("context60", data_dir=tmp_path), labels,
                 {0: 0, 1: 1, 2: 2, 3: 3, 59: 59})  # fmt: skip
    fewer = get_benchmark("context59", data_dir=tmp_path)
    check_labels(fewer, labels, {0: -1, 1: 0, 2: 1, 3: 2, 59: 58})
    assert fewer.class_names[0] == "aeroplane" and fewer.class_names[58] == "wood"


def test_context_conversion_goes_on_where_it_stopped(tmp_path):
    layouts.write_context(tmp_path)
    lines = []
    context.convert(tmp_path, log=lines.append)
    root = tmp_path / "VOCdevkit/VOC2010"
    masks = sorted((root / "SegmentationClassContext").iterdir())
    kept, lost = masks[0].stat(), masks[1]
    lost.unlink()
    (root / "ImageSets/SegmentationContext/val.txt").unlink()
    assert context.convert(tmp_path, log=lines.append) == 1
    assert masks[0].stat().st_mtime_ns == kept.st_mtime_ns and lost.exists()
    assert len(get_benchmark("context59", data_dir=tmp_path)) == 2
    assert not [path for path in root.rglob("*.part")]


def test_context_says_what_its_json_lacks(tmp_path):
    layouts.write_context(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2010/trainval_merged.json"
    good = path.read_text()
    cases = [
        (good.replace('"category_id": 2,', '"category_id": 3,'), None),
        (good[: len(good) // 2], "not in the published form"),
        (good.replace("annos_segmentation", "annotations"), "annos_segmentation"),
        (good.replace('"size": [12, 17]', '"size": [17, 12]'), "size"),
        (good.replace('"counts": [', '"counts": [1, '), "pixels"),
        (good.replace('"val"', '"test"'), "no image of phase"),
    ]
    for text, message in cases:
        assert text != good
        path.write_text(text)
        for mask in (path.parent / "SegmentationClassContext").glob("*"):
            mask.unlink()
        if message:
            with pytest.raises(ValueError, match=message) as caught:
                context.convert(tmp_path, log=lambda line: None)
            assert str(path) in str(caught.value)
        else:  # a category outside of the 59 is ignored, and said
            lines = []
            context.convert(tmp_path, log=lines.append)
            assert "2 regions of other categories" in lines[-1]
            assert (get_benchmark("context60", data_dir=tmp_path)[0]["label"] == -1).any()


def test_runs():
    # Written by COCO's own tool.
    block = np.zeros((7, 11), bool)
    block[2:5, 3:9] = block[0, 0] = True
    np.testing.assert_array_equal(rle.decode("01f02^O000000000<", 7, 11), block)
    wide = np.zeros((500, 1500), bool)
    wide[100:400, 700] = wide[:, 900:] = True
    np.testing.assert_array_equal(rle.decode("dle:\\9`XQ3deT9", 500, 1500), wide)
    rng = np.random.default_rng(0)
    for i in range(40):
        mask = rng.random(rng.integers(1, 60, 2)) < rng.random()
        mask[:] = mask if i % 9 else i % 2
        runs = layouts.runs_of(mask)
        np.testing.assert_array_equal(rle.decode(runs, *mask.shape), mask)
        np.testing.assert_array_equal(rle.decode(layouts.letters_of(runs), *mask.shape), mask)
    for counts, reason in (
        ("01f0\n", "letter"),
        ("01f02^", "end within"),
        ("01f02", "cover"),
        ([3, -1, 75], "cover"),
        ("o" * 30 + "0", "60 bits"),
        ("", "cover"),
    ):
        with pytest.raises(ValueError, match=reason):
            rle.decode(counts, 7, 11)


@pytest.mark.parametrize(
    "place",
    [
        ("val2017", "val2017"),
        ("images/val2017", "annotations/val2017"),
        ("val2017", "stuffthingmaps/val2017"),
    ],
)
def test_coco(tmp_path, place):
    raw = layouts.write_coco(tmp_path)
    for name in raw:  # where other tools put things
        for folder, ending in zip(place, ("jpg", "png"), strict=True):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            old = tmp_path / "val2017" / f"{name}.{ending}"
            old.rename(tmp_path / folder / old.name)
    Image.new("L", (3, 3)).save(tmp_path / place[1] / f"{next(iter(raw))}_labelTrainIds.png")
    stuff = get_benchmark("coco_stuff171", data_dir=tmp_path)
    # 11 has no class, so 12 is the 12th thing; 91 and 181 are the first and the last stuff.
    check_labels(stuff, raw, {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: -1})
    assert [stuff.class_names[i] for i in (11, 79, 80, 170)] == [
        "stop sign", "toothbrush", "banner", "wood"]  # fmt: skip
    things = get_benchmark("coco_object", data_dir=tmp_path)
    check_labels(things, raw, {0: 1, 10: 11, 12: 12, 89: 80, 91: 0, 181: 0, 255: 0})
    assert [things.class_names[i] for i in (0, 1, 80)] == ["background", "person", "toothbrush"]
    assert not stuff.listing.spare


def test_ade(tmp_path):
    raw = layouts.write_ade(tmp_path)
    benchmark = get_benchmark("ade150", data_dir=tmp_path)
    check_labels(benchmark, raw, {0: -1, 1: 0, 2: 1, 150: 149})
    assert [benchmark.class_names[i] for i in (0, 149)] == ["wall", "flag"]


def test_cityscapes_ids_become_train_ids(tmp_path):
    raw = layouts.write_cityscapes(tmp_path)
    benchmark = get_benchmark("cityscapes19", data_dir=tmp_path)
    check_labels(benchmark, raw, {0: -1, 7: 0, 8: 1, 9: -1, 26: 13, 33: 18})
    assert [benchmark.class_names[i] for i in (0, 13, 18)] == ["road", "car", "bicycle"]


def test_imagenet_s(tmp_path):
    wnids = sorted(load_imagenet_words())[::20]
    raw = layouts.write_imagenet_s(tmp_path, wnids)
    benchmark = get_benchmark("imagenet_s50", data_dir=tmp_path)
    check_labels(benchmark, raw, {0: 0, 1: 1, 50: 50, 1000: -1})
    assert len(benchmark.class_names) == 51 and benchmark.absent_as_zero
    names = load_imagenet_words()
    assert [row[0] for row in benchmark.words] == [names[wnid][0] for wnid in wnids]
    (tmp_path / "ImageNetS50/validation-segmentation" / wnids[7]).rmdir()
    with pytest.raises(LayoutError, match="49 folders of classes, but the split has 50"):
        get_benchmark("imagenet_s50", data_dir=tmp_path)


def test_imagenet_s_merges_words_and_refuses_strangers(tmp_path):
    wnids = sorted({*sorted(load_imagenet_words())[:49], "n03832673"})
    layouts.write_imagenet_s(tmp_path, wnids)
    benchmark = get_benchmark("imagenet_s50", data_dir=tmp_path)
    assert {"laptop", "notebook computer"} <= set(benchmark.words[-1])
    (tmp_path / "ImageNetS50/validation-segmentation/n99999999").mkdir()
    with pytest.raises(LayoutError, match="not a class of ImageNet"):
        get_benchmark("imagenet_s50", data_dir=tmp_path)


def test_folder(tmp_path):
    raw = layouts.write_folder(tmp_path)
    benchmark = get_benchmark("folder", data_dir=tmp_path)
    check_labels(benchmark, raw, {0: 0, 1: 1, 2: 2, 255: -1})
    assert benchmark.words == (("cat",), ("dog", "hound"), ("grass",))
    assert len(get_benchmark("folder", data_dir=tmp_path, images=1)) == 1
    # Zero-label reduction, once: 0 is ignored and so is 255, which must not become 254.
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    reduced = get_benchmark("folder", data_dir=tmp_path, reduce_zero=True)
    check_labels(reduced, raw, {0: -1, 1: 0, 2: 1, 255: -1})
    (tmp_path / "words.txt").write_text("Background\ncat\n")
    other = get_benchmark("folder", data_dir=tmp_path, ignore=2)
    assert other.has_background and other.words == (("cat",),)
    with pytest.raises(MaskError, match="label 255 .* known labels: 0..2. .*--ignore is 2"):
        _ = other[0]
    assert dataclasses.replace(other, words=(("tiger",),)).words == (("tiger",),)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_folder_reads_any_depth_of_grey(tmp_path, bits):
    values = tuple({0, 1, 2 ** min(bits, 9) - 1})
    raw = layouts.write_folder(tmp_path, [f"w{i}" for i in range(max(values) + 1)], values,
                               count=1, dtype=np.uint16)  # fmt: skip
    layouts.grey_png(raw["p0"], bits, tmp_path / "masks" / "p0.png")
    benchmark = get_benchmark("folder", data_dir=tmp_path, ignore=-1)
    np.testing.assert_array_equal(benchmark[0]["label"], raw["p0"])


def test_masks_of_colours_are_refused(tmp_path):
    layouts.write_folder(tmp_path, count=1)
    path = tmp_path / "masks" / "p0.png"
    for array in (np.zeros((12, 17, 3), np.uint8), np.zeros((12, 17, 4), np.uint8)):
        layouts.save(array, path)
        with pytest.raises(MaskError, match="colours"):
            read_index(path)
    wnids = sorted(load_imagenet_words())[:50]
    layouts.write_imagenet_s(tmp_path, wnids, pictures=1)
    mask = next((tmp_path / "ImageNetS50/validation-segmentation" / wnids[0]).iterdir())
    for array, message in ((np.full((12, 17, 3), 9, np.uint8), "blue is up to 9"),
                           (np.zeros((12, 17), np.uint8), "mode L is not RGB")):  # fmt: skip
        layouts.save(array, mask)
        with pytest.raises(MaskError, match=message):
            _ = get_benchmark("imagenet_s50", data_dir=tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "write", "value", "message"),
    [
        ("voc21", layouts.write_voc, 21, "label 21 .* known labels: 0..20, 255"),
        (
            "coco_stuff171",
            layouts.write_coco,
            11,
            "label 11 .* labels: 0..10, 12..24, 26..27",
        ),
        ("coco_object", layouts.write_coco, 200, "label 200 .* 91..181, 255"),
        ("ade150", layouts.write_ade, 255, "label 255 .* 0..150. .*reduced by another tool"),
        ("cityscapes19", layouts.write_cityscapes, 255, "label 255 .* 0..33. .*train ids"),
        ("folder", layouts.write_folder, 3, "label 3 .* 0..2, 255. words.txt has 3 classes"),
    ],
)
def test_labels_without_a_meaning_name_file_value_and_range(tmp_path, name, write, value, message):
    write(tmp_path, values=(0, value))
    with pytest.raises(MaskError, match=message) as caught:
        _ = get_benchmark(name, data_dir=tmp_path)[0]
    assert ".png" in str(caught.value)


def test_sizes_differ(tmp_path):
    layouts.write_folder(tmp_path, count=1)
    layouts.picture(tmp_path / "images" / "p0.jpg", size=(12, 18))
    with pytest.raises(SizeError, match=r"p0.png: 17 x 12 px, but p0.jpg is 18 x 12 px"):
        _ = get_benchmark("folder", data_dir=tmp_path)[0]


def test_exif_is_followed_as_far_as_the_mask_fits(tmp_path):
    raw = layouts.write_folder(tmp_path, count=1)["p0"]
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = layouts.picture(tmp_path / "images" / "p0.png")
    (tmp_path / "images" / "p0.jpg").unlink()
    layouts.save(pixels, tmp_path / "images" / "p0.png", exif=exif)
    stored = get_benchmark("folder", data_dir=tmp_path)[0]  # drawn on the pixels as stored
    np.testing.assert_array_equal(stored["image"], pixels)
    layouts.save(np.rot90(raw, -1), tmp_path / "masks" / "p0.png")
    turned = get_benchmark("folder", data_dir=tmp_path)[0]
    np.testing.assert_array_equal(turned["image"], np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("rm masks/p1.png", {}, "p1.png: missing; see python -m zeroseg_jax verify"),
        ("rm masks/p0.png masks/p1.png", {}, "p0.png and 1 more files: missing"),
        ("rm images/p0.jpg images/p1.jpg", {}, "images: no image"),
        ("rm words.txt", {}, "words.txt: missing"),
        ("mkdir images/more", {}, "put images directly into"),
        ("touch images/p0.webp", {}, "shares its stem"),
        ("words cat//dog", {}, "line 2: a blank line"),
        ("words cat/ /dog", {}, "line 2: a blank line"),
        ("words cat/dog;;hound", {}, "line 2: a blank name"),
        ("words cat/dog; Cat", {}, "'Cat' is in line 1 and in line 2"),
        ("words cat/dog; dog", {}, "'dog' is in line 2 and in line 2"),
        ("words background", {}, "only a background is named"),
        ("words background/cat", {"reduce_zero": True}, "drop the line or the flag"),
        (f"words {'x' * 201}", {}, "201 letters"),
        ("", {"ignore": 2}, "2 is also the label of 'grass'"),
        ("", {"ignore": 3, "reduce_zero": True}, "3 is also the label of 'grass'"),
        ("", {"ignore": 70000}, "outside -1..65535"),
    ],
)
def test_bad_folders_are_one_sentence(tmp_path, change, options, message):
    layouts.write_folder(tmp_path)
    verb, _, rest = change.partition(" ")
    if verb == "words":
        (tmp_path / "words.txt").write_text(rest.replace("/", "\n"))
    for name in rest.split() if verb != "words" else ():
        path = tmp_path / name
        {"rm": path.unlink, "mkdir": path.mkdir, "touch": path.touch}[verb]()
    with pytest.raises(ValueError, match=message) as caught:
        get_benchmark("folder", data_dir=tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_bad_words_files(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(ValueError, match="missing"):
        read_words(path)
    path.write_text("")
    with pytest.raises(ValueError, match="empty"):
        read_words(path)
    path.write_bytes("kätzchen".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_words(path)
    path.write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="2 lines, but there are 21 classes"):
        read_words(path, classes=21)
    with pytest.raises(ValueError, match="voc21.sclip"):
        load_words("voc21.sclap")


def test_misuse_of_get_benchmark(tmp_path):
    for arguments, message in (
        ({"name": "voc12"}, "did you mean voc2"),
        ({"name": "voc21"}, "--data_dir: empty; name the folder of voc21"),
        ({"name": "voc21", "data_dir": tmp_path / "none"}, "is not a directory"),
        ({"name": "voc21", "data_dir": tmp_path, "ignore": 0}, "only for folder, not for voc21"),
        ({"name": "voc21", "data_dir": tmp_path, "seed": 1}, "--scene_seed"),
        ({"name": "voc21", "data_dir": tmp_path}, "unpack VOCtrainval_11-May-2012.tar"),
        ({"name": "coco_object", "data_dir": tmp_path}, "unpack val2017.zip"),
        ({"name": "ade150", "data_dir": tmp_path}, "unpack ADEChallengeData2016.zip"),
        ({"name": "cityscapes19", "data_dir": tmp_path}, "unpack leftImg8bit"),
        ({"name": "imagenet_s", "data_dir": tmp_path}, "ImageNetS919"),
        ({"name": "context59", "data_dir": tmp_path}, "trainval_merged.json"),
    ):
        with pytest.raises(ValueError, match=message):
            get_benchmark(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image is listed"),
        ("a\na\n", "a is listed twice"),
        ("../a\n", "not a plain"),
    ],
)
def test_bad_split_files(tmp_path, text, message):
    layouts.write_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text(text)
    with pytest.raises(LayoutError, match=message):
        get_benchmark("voc21", data_dir=tmp_path)


CLASSES = {"voc21": 21, "voc20": 20, "context60": 60, "context59": 59, "coco_object": 81,
           "coco_stuff171": 171, "ade150": 150, "cityscapes19": 19}  # fmt: skip


def test_shipped_words_have_a_line_for_every_class():
    stems = {path.stem for path in WORDS.glob("*.txt")} - {"imagenet1k"}
    assert {stem.split(".")[0] for stem in stems} == set(CLASSES)
    for stem in stems:
        assert len(load_words(stem)) == CLASSES[stem.split(".")[0]], stem
    for name, classes in CLASSES.items():  # the project's own lists have no word twice
        rows = read_words(WORDS / f"{name}.txt", classes=classes)
        assert all(word == word.strip() and "  " not in word for row in rows for word in row)


def test_published_words():
    counts = {name: sum(map(len, load_words(name))) for name in (
        "voc21.sclip", "voc20.sclip", "coco_object.sclip", "voc21.proxyclip",
        "coco_object.proxyclip", "voc21.clearclip", "context60.sclip", "ade150.sclip")}  # fmt: skip
    assert counts == {"voc21.sclip": 56, "voc20.sclip": 30, "coco_object.sclip": 113,
                      "voc21.proxyclip": 46, "coco_object.proxyclip": 97, "voc21.clearclip": 21,
                      "context60.sclip": 60, "ade150.sclip": 150}  # fmt: skip
    groupvit = load_words("voc21.groupvit")
    assert [groupvit[i][0] for i in (11, 16, 20)] == ["table", "plant", "monitor"]
    names = load_imagenet_words()
    assert len(names) == 1000 and len({row[0].casefold() for row in names.values()}) == 1000
    assert names["n02012849"][0] != names["n03126707"][0]  # two cranes
