"""Properties of parsers and readers over generated input: config, names, presets, masks, images."""

import io
import json
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.endurance.settings import list_fields
from zeroseg_jax.config import Config, ConfigError, explain_text, from_mapping, to_mapping
from zeroseg_jax.data.benchmarks import masks, rle
from zeroseg_jax.data.transforms import ImageError, decode_image, read_image
from zeroseg_jax.inference.class_names import parse_classes
from zeroseg_jax.inference.presets import get_preset, parse_overrides
from zeroseg_jax.teacher.prompts import PROMPTS

settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("suite")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NUMBERS = [(path, limits) for path, wanted, limits in list_fields() if wanted in (int, float)]
# Letters of names: no separator of any form, no control character, no blank at an end.
NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters=",;/"), min_size=1, max_size=12
)
CLASSES = st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=6).filter(
    lambda classes: (
        len({n.casefold() for names in classes for n in names}) == sum(map(len, classes))
    )
)


def nest(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


@given(st.sampled_from(NUMBERS), st.floats(0, 1))
def test_numbers_within_their_limits_survive_json(field, share):
    path, limits = field
    low, high = limits["least"], limits.get("most", limits.get("below"))
    value = low + (high - low) * share
    value = type(low)(value) if isinstance(low, int) and isinstance(high, int) else value
    try:
        config = from_mapping(nest(path, value))
    except ConfigError:
        return  # another field does not fit
    assert from_mapping(json.loads(json.dumps(to_mapping(config), allow_nan=False))) == config


@given(st.sampled_from(list_fields()), JSON)
def test_any_json_is_read_or_refused_in_a_sentence(field, value):
    try:
        config = from_mapping(nest(field[0], value))
    except ConfigError as error:
        assert field[0] in str(error) and "\n" not in str(error) and len(str(error)) < 400
        return
    assert from_mapping(to_mapping(config)) == config


@given(st.dictionaries(st.sampled_from([*to_mapping(Config()), "modle"]), JSON, max_size=3))
def test_any_mapping_is_read_or_refused(mapping):
    try:
        from_mapping(mapping, "run/manifest.json")
    except ConfigError as error:
        assert str(error).startswith("run/manifest.json: ")


@given(st.sampled_from([path for path, _ in NUMBERS]), st.text(max_size=20))
def test_typed_text_is_never_a_number_in_silence(path, text):
    assert explain_text(path, text).startswith(f"{path}: ")


@given(CLASSES, st.sampled_from([", ", ",", " ,,", "\n", "\r\n", ",\n"]))
def test_commas_and_slashes_give_the_classes_back(classes, between):
    assert parse_classes(between.join("/".join(names) for names in classes)) == classes


@given(CLASSES, st.sampled_from(["; ", ";", ";;", ";\n"]))
def test_semicolons_and_commas_give_the_classes_back(classes, between):
    text = between.join(", ".join(names) for names in classes) + ";"
    assert parse_classes(text) == classes


@given(CLASSES)
def test_a_name_given_twice_is_refused(classes):
    text = ",".join("/".join(names) for names in [*classes, classes[0]])
    with pytest.raises(ValueError, match="is given twice"):
        parse_classes(text)


@given(st.text(max_size=60))
def test_any_text_is_classes_or_one_sentence(text):
    try:
        classes = parse_classes(text)
    except ValueError as error:
        assert str(error).startswith("--classes: ") and "\n" not in str(error)
        return
    assert all(name == name.strip() != "" for names in classes for name in names)


@given(st.fixed_dictionaries({
    "short_side_px": st.integers(1, 4096), "stride_px": st.integers(0, 4096),
    "topk": st.integers(1, 100), "threshold": st.floats(0, 1), "logit_scale": st.floats(0, 100),
    "pamr_iterations": st.integers(1, 50), "resize": st.sampled_from(["cv2", "bilinear"]),
}))  # fmt: skip
def test_overrides_of_a_preset_are_taken_as_given(values):
    text = ",".join(f"{key}={value}" for key, value in values.items())
    preset = get_preset("zeroseg", "coco", parse_overrides(text))
    assert {key: getattr(preset, key) for key in values} == values


@given(st.text(string.printable, max_size=30))
def test_any_override_is_taken_or_refused(text):
    try:
        get_preset("zeroseg", "coco", parse_overrides(text))
    except ValueError as error:
        assert str(error).startswith("--set: ")


@given(st.sampled_from(["threshold", "area_threshold", "logit_scale", "topk", "stride_px"]),
       st.sampled_from(["nan", "inf", "-inf", "-1", "1e400", "", "x", "1e999"]))  # fmt: skip
def test_numbers_of_no_use_are_refused(field, value):
    with pytest.raises(ValueError, match=f"--set: {field}"):
        get_preset("zeroseg", "coco", {field: value})


@given(st.text(max_size=20))
def test_a_name_with_braces_enters_a_prompt_unchanged(name):
    for prompts in PROMPTS.values():
        for prompt in prompts:
            before, hole, after = prompt.partition("{}")
            assert hole and prompt.format(name) == before + name + after


def decode_slowly(counts, height, width):
    flat = [i % 2 == 1 for i, count in enumerate(counts) for _ in range(count)]
    return np.array([[flat[x * height + y] for x in range(width)] for y in range(height)], bool)


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_run_lengths_agree_with_a_slow_decoder(height, width, data):
    ends = sorted(data.draw(st.lists(st.integers(0, height * width), max_size=8)))
    counts = np.diff([0, *ends, height * width]).tolist()
    expected = decode_slowly(counts, height, width)
    np.testing.assert_array_equal(rle.decode(counts, height, width), expected)


@given(st.one_of(st.text(max_size=20), st.lists(st.integers(-5, 30), max_size=6)))
def test_any_run_lengths_are_a_mask_or_a_sentence(counts):
    try:
        assert rle.decode(counts, 3, 4).shape == (3, 4)
    except ValueError as error:
        assert "\n" not in str(error)


@given(st.lists(st.integers(0, 15), min_size=12, max_size=12), st.sampled_from("LP4"),
       st.sets(st.integers(0, 15), max_size=3))  # fmt: skip
def test_masks_have_the_ids_of_their_table(values, kind, ignored):
    raw = np.array(values, np.uint8).reshape(3, 4)
    table = masks.build_table({v: v + 1 for v in range(16) if v not in ignored}, ignored)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        image = Image.fromarray(raw)
        if kind != "L":
            image = image.convert("P")
            image.putpalette(bytes(range(48)))
            image.putdata(raw.ravel())
        image.save(path, **({"bits": 4} if kind == "4" else {}))
        found = masks.Encoding(table).read(path)
    expected = [[masks.IGNORED if v in ignored else int(v) + 1 for v in row] for row in raw]
    np.testing.assert_array_equal(found, expected)


def encode(kind):
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


PICTURES = {kind: encode(kind) for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "AVIF")}


@settings(max_examples=200)
@given(st.sampled_from(sorted(PICTURES)), st.data())
def test_damaged_headers_are_an_image_or_one_sentence(kind, data):
    content = bytearray(PICTURES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 200) - 1))] ^= data.draw(
            st.integers(1, 255)
        )
    cut = data.draw(st.none() | st.integers(0, len(content)))
    try:
        image = decode_image(io.BytesIO(bytes(content[:cut])), "cat.png", max_pixels=10**6)
    except ImageError as error:
        assert str(error).startswith("cat.png: ") and "\n" not in str(error), error
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@given(st.binary(max_size=40), st.sampled_from([b"", *(v[:16] for v in PICTURES.values())]))
def test_any_file_is_an_image_or_one_sentence(content, start):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cat.png"
        path.write_bytes(start + content)
        with pytest.raises(ImageError, match="cat.png: "):
            read_image(path)
