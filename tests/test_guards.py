"""What moves, renames and merges must not change: programs, parameters, numbers, old files.

Masks, scores and features may differ in the last bits between CPU models, so they are compared
with tolerances; GUARDS_EXACT=1, on the machine that recorded them, asks for every bit.
`python -m tests.regenerate_guards GUARD` records a guard anew where a change is meant.
"""

import json
import os

import jax
import numpy as np
import pytest

from tests import guards
from zeroseg_jax import Predictor
from zeroseg_jax.inference.model import load
from zeroseg_jax.teacher.load import load_teacher

EXACT = os.environ.get("GUARDS_EXACT") == "1"
SHAPES = {"square": guards.SQUARES, "other": guards.OTHERS}
_PIXELS = 0.999  # of a mask, equal
_SCORES = 2e-3  # largest difference
_IOU = 0.2  # points


def read_json(name):
    return json.loads((guards.FOLDER / name).read_text())


@pytest.fixture(scope="module")
def clip():
    return load_teacher("playground")


@pytest.fixture(scope="module")
def student():
    return load("playground")


@pytest.fixture(scope="module")
def bank_directory(tmp_path_factory, clip):
    directory = tmp_path_factory.mktemp("guards") / "bank"
    guards.write_bank(directory, clip)
    return directory


def test_parameters_keep_their_names_and_shapes(tmp_path):
    found = guards.describe_parameters(tmp_path)
    folder = guards.FOLDER / "parameters"
    assert {path.stem for path in folder.iterdir()} == set(found)
    for model, shapes in found.items():
        assert shapes == read_json(f"parameters/{model}.json"), model


@pytest.mark.skipif(
    jax.__version__ != guards.JAX_OF_PROGRAMS,
    reason=f"programs were recorded with jax {guards.JAX_OF_PROGRAMS}, this is {jax.__version__}",
)
def test_training_steps_lower_to_the_same_programs():
    golden = read_json("step_programs.json")
    found = guards.describe_programs()
    for name, program in golden.items():
        assert found[name]["operations"] == program["operations"], name
        assert found[name]["sha256"] == program["sha256"], name


def test_only_symbols_are_numbered():
    one = "module @a { func @main { call @f(@f) custom_call @Sharding } func @f }"
    two = "module @b { func @main { call @g(@g) custom_call @Sharding } func @g }"
    assert guards.normalise_symbols(one) == guards.normalise_symbols(two)
    for other in (two.replace("@Sharding", "@Other"), two.replace("(@g)", "(@main)")):
        assert guards.normalise_symbols(one) != guards.normalise_symbols(other)


def test_prepare_writes_the_same_bank(bank_directory):
    golden, found = read_json("bank_files.json"), guards.digest_bank(bank_directory)
    assert set(found) == set(golden)
    different = {name for name in golden if found[name] != golden[name]}
    if not different:
        return
    # Another CPU adds in another order: records may differ in a last bit, settings may not.
    assert not EXACT, different
    assert different <= {name for name in golden if "shard" in name or "report" in name}
    records = guards.read_bank(bank_directory)
    with np.load(guards.FOLDER / "bank_records.npz") as wanted:
        assert set(wanted.files) == set(records)
        np.testing.assert_array_equal(records["image_sha256"], wanted["image_sha256"])
        assert (records["fused"] == wanted["fused"]).mean() > 0.99
        for name in ("features", "local"):
            check_halves(records[name], wanted[name])


def check_halves(found, wanted):
    """Compare float16 rows to one unit in the last place, at the size of the row's values."""
    assert found.dtype == wanted.dtype == np.float16
    found, wide = found.astype(np.float32), wanted.astype(np.float32)
    size = np.sqrt((wide**2).mean(axis=-1, keepdims=True))
    step = np.spacing(np.maximum(np.abs(wide), size).astype(np.float16)).astype(np.float32)
    assert (np.abs(found - wide) <= step).all()


@pytest.mark.parametrize(
    ("name", "mapping"), [("zeroseg", guards.ZEROSEG), ("clip_zss", guards.CLIP_ZSS)]
)
def test_eight_steps_have_the_same_losses(name, mapping, bank_directory, clip, tmp_path):
    found = guards.train_losses(mapping, tmp_path, clip, bank_directory)
    check_losses(found, read_json("losses.json")[name])


def check_losses(found, golden):
    assert not EXACT or found == golden
    assert set(found) == set(golden)
    for step, losses in golden.items():
        assert found[step] == pytest.approx(losses, rel=1e-5), step


@pytest.mark.parametrize("shape", SHAPES)
def test_predictor_paints_the_same_pixels(shape, record_property):
    found = guards.predict(Predictor.from_pretrained("playground"), SHAPES[shape])
    check_pixels(found, f"predictor_{shape}.npz", record_property)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_paints_the_same_pixels(shape, student, record_property):
    found = guards.segment_for_evaluation(student, SHAPES[shape])
    check_pixels(found, f"evaluation_{shape}.npz", record_property)


def check_pixels(found, name, record_property):
    with np.load(guards.FOLDER / name) as golden:
        assert set(golden.files) == set(found)
        exact = [key for key in found if np.array_equal(found[key], golden[key])]
        record_property("exact_arrays", f"{len(exact)} of {len(found)}")
        assert not EXACT or len(exact) == len(found)
        for key, array in found.items():
            assert array.shape == golden[key].shape, key
            if key.startswith("mask"):
                assert (array == golden[key]).mean() >= _PIXELS, key
            else:
                close(array, golden[key], key)


def close(found, wanted, name):
    found, wanted = np.float32(found), np.float32(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=_SCORES, err_msg=name)


def test_reports_score_the_same(student, tmp_path):
    found, golden = guards.score_benchmarks(student, tmp_path), read_json("reports.json")
    assert not EXACT or found == golden
    assert set(found) == set(golden)
    for name, report in golden.items():
        assert found[name]["miou"] == pytest.approx(report["miou"], abs=_IOU), name
        assert set(found[name]["per_class_iou"]) == set(report["per_class_iou"]), name


def test_verbs_keep_their_flags_and_defaults():
    assert json.loads(json.dumps(guards.describe_flags())) == read_json("flags.json")


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """Return a work directory with its bank, as it was written when the guards were recorded."""
    return guards.unpack_old_run(tmp_path_factory.mktemp("old") / "run")


def test_old_files_answer_as_they_did(old_run):
    steps = read_json("artifacts/facts.json")["steps"]
    with np.load(guards.ARTIFACTS / "answers.npz") as golden:
        for name, directory in guards.list_artifacts(old_run):
            step, mask, scores = guards.ask_artifact(directory)
            assert step == steps[name]
            assert (mask == golden[f"{name}_mask"]).mean() >= _PIXELS, name
            close(scores, golden[f"{name}_scores"], name)


def test_an_old_bank_reads_as_it_was(old_run):
    records = guards.digest_arrays(guards.read_bank(old_run / "bank"))
    assert records == read_json("artifacts/facts.json")["records"]


def test_an_old_run_resumes(old_run, clip):
    """From step 4 with optimizer state, memory and clock, to the losses of the undisturbed run."""
    found = guards.train_losses(guards.CLIP_ZSS, old_run, clip)
    check_losses(found, read_json("artifacts/facts.json")["losses"])
