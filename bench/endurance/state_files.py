"""Damage to state files: each is read whole, or refused in one sentence that names the file.

    python -m bench.endurance.state_files

State files are those that a run, a bank, an export or a teacher keeps beside its arrays. Every one
is replaced by empty, truncated, foreign and mistyped content, by a folder, and by itself with one
field of another type. Loading then uses the functions of the commands. tests/data/test_files.py
runs the same table.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.endurance.exceptions import FAULTS
from zeroseg_jax.commands import flags
from zeroseg_jax.config import Config, from_mapping, to_mapping
from zeroseg_jax.data import bank, files, records
from zeroseg_jax.evaluation import bootstrap, sweep_points, sweep_tables
from zeroseg_jax.inference import model_files
from zeroseg_jax.models.clip_zss.segformer_weights import read_mit_config
from zeroseg_jax.teacher.checkpoints import config as clip_config
from zeroseg_jax.teacher.checkpoints import tensors
from zeroseg_jax.teacher.load import SHIPPED, read_normalisation
from zeroseg_jax.teacher.tokenizer import load_tokenizer
from zeroseg_jax.training import student_files, workdir

# Content that is wrong for every state file.
FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "list": b"[]\n",
    "null": b"null\n",
    "number": b"3\n",
    "text": b'"text"\n',
    "no object in it": b'{"a": ',
    "deep": b"[" * 200_000,
    "binary": bytes(range(256)) * 8,
    "zeros": bytes(512),
    "not UTF-8": b'{"\xff\xfe": 1}',
    "huge number": b'{"steps": 1' + b"0" * 5000 + b"}",
    "web page": b"<!DOCTYPE html><html></html>",
}
_WRONG: tuple[Any, ...] = (None, [], "x", -1, {"x": []}, [None])  # for a field of an object
_DIGEST = "0" * 64


@dataclasses.dataclass(frozen=True)
class StateFile:
    """A state file.

    Attributes:
      name: label in results.
      path: file below the folder that `make` fills.
      make: function that fills a folder.
      load: function that reads the folder as the commands do.
      bare: kinds of FOREIGN that are right content, such as an empty list of merges.
    """

    name: str
    path: str
    make: Callable[[Path], None]
    load: Callable[[Path], Any]
    bare: tuple[str, ...] = ()


def _make_run(folder: Path) -> None:
    content = {
        "config": to_mapping(Config()), "overrides": {"run.seed": 1}, "steps": 3,
        "teacher": _DIGEST,
    }  # fmt: skip
    files.write_json(folder / workdir.MANIFEST, content)


def _load_run(folder: Path) -> None:
    from_mapping(workdir.read_manifest(folder)["config"], str(folder))
    workdir.compare_configs(folder, to_mapping(Config()))
    model_files.read_facts(folder)
    sweep_points.list_differences(folder, Config())
    sweep_points.is_trained(folder)


def _make_bank(folder: Path) -> None:
    bank.begin_bank(folder, {"teacher": _DIGEST, "embed_dim": 4, "grids": [1]})
    image, features = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 4), np.float16)
    packed = [records.encode_record(i, str(i), image, features) for i in range(3)]
    skipped = [{"index": 3, "reason": "3.png: damaged."}]
    bank.write_shard(folder, 0, packed, skipped)
    bank.finish_bank(folder, 1, {"teacher": _DIGEST, "embed_dim": 4, "grids": [1]})


def _load_bank(folder: Path) -> None:
    source = bank.BankSource(folder)
    assert [source[i]["index"] for i in range(len(source))] == [0, 1, 2]


def _load_shards(folder: Path) -> None:
    if bank.has_shard(folder, 0):
        bank.finish_bank(folder, 1, {"teacher": _DIGEST})


def _make_report(folder: Path) -> None:
    preset = {"name": "zeroseg", "prompts": "simple", "threshold": 0.5, "pamr_dilations": []}
    content = {
        "benchmark": "voc21", "miou": 12.5, "images": 3, "preset": preset,
        "checkpoint": "run at step 3", "diagnostics": {"purity": 0.5}, "seconds": 1.0,
    }  # fmt: skip
    (folder / "reports/voc21").mkdir(parents=True)
    files.write_json(folder / "reports/voc21/report.json", content)
    counts = {name: np.zeros(0, np.int64) for name in ("cells", "counts")}
    files.write_npz(
        folder / "reports/voc21/counts.npz",
        images=np.array(["a"]), lengths=np.zeros(1, np.int64), classes=np.array(["cat"]), **counts,
    )  # fmt: skip
    files.write_json(folder / "reports/other/report.json", {"miou": 1.0})
    files.write_json(folder / "reports/sweep.json", {"preset": "zeroseg"})
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    _make_run(folder)
    (folder / "checkpoints/3").mkdir(parents=True)


def _load_report(folder: Path) -> None:
    bootstrap.read_run(folder / "reports/voc21")
    sweep_points.is_scored(folder, ["voc21"], {"preset": "zeroseg"})
    model_files.read_facts(folder)
    _collect(folder)


def _collect(folder: Path) -> None:
    point = folder.with_name(folder.name + "-points") / "000"
    shutil.rmtree(point.parent, ignore_errors=True)
    shutil.copytree(folder, point)
    sweep_tables.collect(
        point.parent, {0: {"run.seed": 0}}, metric="reports/other/miou", against=""
    )


def _make_student(folder: Path) -> None:
    params = {"encoder": {"kernel": np.zeros((2, 2), np.float32)}}
    student_files.export_params(params, Config(), folder, {"step": 3, "teacher": _DIGEST})


def _load_student(folder: Path) -> None:
    student_files.read_export(folder)
    model_files.read_facts(folder)


def _make_readout(folder: Path) -> None:
    part = {"name": "", "shown": "clip", "digest": _DIGEST}
    content = {"format": model_files.READOUT_FORMAT, "readout": "maskclip", "teacher": part}
    files.write_json(folder / "config.json", content)


def _load_readout(folder: Path) -> None:
    if model_files.is_readout_export(folder):
        model_files.read_readout(folder)


def _copy_clip(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in ("config.json", *names):
            shutil.copyfile(SHIPPED / name, folder / name)

    return make


def _load_tokenizer(folder: Path) -> None:
    encode = load_tokenizer(folder, clip_config.read_config(folder))
    assert encode(["a red star"]).shape[0] == 1


def _make_siglip(folder: Path) -> None:
    shutil.copyfile(SHIPPED / "tokenizer.json", folder / "tokenizer.json")
    files.write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>"},
    )


def _load_family(family: str) -> Callable[[Path], None]:
    config = clip_config.read_config(SHIPPED)

    def load(folder: Path) -> None:
        encode = load_tokenizer(folder, dataclasses.replace(config, family=family))
        encode(["a red star"])

    return load


def _make_pieces(folder: Path) -> None:
    import sentencepiece

    text = iter(["a red star and a blue ring on green grass"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_prefix=str(folder / "tokenizer"), vocab_size=30,
        hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip


def _load_pieces(folder: Path) -> None:
    config = clip_config.read_config(SHIPPED)
    small = dataclasses.replace(config, family="tipsv2", vocabulary=64)
    load_tokenizer(folder, small)(["a red star"])


def _make_index(folder: Path) -> None:
    shutil.copyfile(SHIPPED / "config.json", folder / "config.json")
    (folder / "model-1.safetensors").write_bytes(b"x")
    files.write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": 1}, "weight_map": {"a": "model-1.safetensors"}},
    )


def _make_open_clip(folder: Path) -> None:
    sizes = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"context_length": 12, "vocab_size": 60, "width": 64, "heads": 1, "layers": 2}
    files.write_json(
        folder / "open_clip_config.json",
        {
            "model_cfg": {"embed_dim": 20, "vision_cfg": sizes, "text_cfg": text},
            "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
        },
    )


def _load_clip_config(folder: Path) -> None:
    clip_config.read_config(folder)
    read_normalisation(folder, "clip")


def _make_segformer(folder: Path) -> None:
    files.write_json(
        folder / "config.json",
        {
            "model_type": "segformer", "hidden_sizes": [32, 64, 160, 256],
            "depths": [2, 2, 2, 2], "num_attention_heads": [1, 2, 5, 8],
            "sr_ratios": [8, 4, 2, 1], "mlp_ratios": [4, 4, 4, 4], "hidden_act": "gelu",
        },
    )  # fmt: skip


STATE_FILES = (
    StateFile("manifest of a run", "manifest.json", _make_run, _load_run),
    StateFile("manifest of a bank", "manifest.json", _make_bank, _load_bank),
    StateFile("summary of a shard", "shard-00000.json", _make_bank, _load_shards),
    StateFile("report", "reports/voc21/report.json", _make_report, _load_report),
    StateFile("flags of a sweep", "reports/sweep.json", _make_report, _load_report),
    StateFile("metrics", "metrics.jsonl", _make_report, _collect),
    StateFile("exported student", "config.json", _make_student, _load_student),
    StateFile("exported read-out", "config.json", _make_readout, _load_readout),
    StateFile("CLIP's config", "config.json", _copy_clip(), _load_clip_config),
    StateFile("OpenCLIP's config", "open_clip_config.json", _make_open_clip, _load_clip_config),
    StateFile(
        "normalisation", "preprocessor_config.json", _copy_clip("preprocessor_config.json"),
        _load_clip_config,
    ),
    StateFile("tokenizer.json", "tokenizer.json", _copy_clip("tokenizer.json"), _load_tokenizer),
    StateFile(
        "vocabulary", "vocab.json", _copy_clip("vocab.json", "merges.txt"), _load_tokenizer
    ),
    StateFile("merges", "merges.txt", _copy_clip("vocab.json", "merges.txt"), _load_tokenizer),
    StateFile(
        "tokenizer's settings", "tokenizer_config.json",
        _copy_clip("vocab.json", "merges.txt", "tokenizer_config.json"), _load_tokenizer,
    ),
    StateFile(
        "SigLIP's tokenizer", "tokenizer.json", _make_siglip, _load_family("siglip")
    ),
    StateFile(
        "SigLIP's settings", "tokenizer_config.json", _make_siglip, _load_family("siglip")
    ),
    StateFile("SentencePiece", "tokenizer.model", _make_pieces, _load_pieces),
    StateFile(
        "index of weights", "model.safetensors.index.json", _make_index, tensors.weight_files
    ),
    StateFile("SegFormer's config", "config.json", _make_segformer, read_mit_config),
)  # fmt: skip


def list_faults(path: Path, seed: int = 0) -> Iterator[tuple[str, bytes | None]]:
    """Yield (label, content) of each fault of a file; None replaces the file by a folder."""
    whole = path.read_bytes()
    yield from FOREIGN.items()
    yield "folder", None
    yield "half", whole[: len(whole) // 2]
    yield "last byte lost", whole.rstrip()[:-1]
    rng = random.Random(seed)
    flipped = bytearray(whole)
    flipped[rng.randrange(len(flipped))] ^= 0x80
    yield "flipped bit", bytes(flipped)
    if path.suffix != ".json":
        return
    yield "twice the same field", whole.rstrip().rstrip(b"}") + b', "steps": 1, "steps": []}'
    places = _list_places(json.loads(whole))
    for place in rng.sample(places, min(12, len(places))):
        value = rng.choice(_WRONG)
        changed = json.loads(whole)
        node = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = copy.deepcopy(value)
        label = ".".join(map(str, place))
        yield f"{label} = {json.dumps(value)}", json.dumps(changed).encode()
        del node[place[-1]]
        yield f"{label} missing", json.dumps(changed).encode()


def _list_places(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of all values of two levels; of a long object or list the first ones."""
    if len(above) == 2 or not isinstance(content, dict | list):
        return []
    pairs = list(content.items() if isinstance(content, dict) else enumerate(content))[:20]
    return [
        place for key, value in pairs
        for place in ((*above, key), *_list_places(value, (*above, key)))
    ]  # fmt: skip


def check(state_file: StateFile, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (fault, "named", "read" or "fault", message) for every fault of a state file.

    Args:
      state_file: the file and its loader.
      folder: empty scratch folder.
    """
    whole = folder / "whole"
    whole.mkdir()
    state_file.make(whole)
    for label, content in list_faults(whole / state_file.path):
        damaged = folder / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        path = damaged / state_file.path
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        yield label, *_try(state_file, damaged)


def _try(state_file: StateFile, folder: Path) -> tuple[str, str]:
    try:
        state_file.load(folder)
    except (ValueError, OSError) as error:
        text = str(error)
        told = "\n" not in text.strip() and len(text) < 1000
        # Points of a sweep are copies beside the folder.
        named = Path(state_file.path).name in text or str(folder) in text
        kind = "named" if told and named else "fault"
        return kind, f"{type(error).__name__}: {text}"
    except FAULTS as error:  # other than the two above: an accident
        return "fault", f"{type(error).__name__}: {error}"
    return "read", ""


def measure(log: Callable[[str], None] = print) -> dict[str, Any]:
    """Damage every state file; return counts by file, and the faults."""
    table, faults = {}, []
    for state_file in STATE_FILES:
        counts: collections.Counter[str] = collections.Counter()
        with tempfile.TemporaryDirectory() as folder:
            for label, kind, message in check(state_file, Path(folder)):
                counts[kind] += 1
                if kind == "fault":
                    faults.append({"file": state_file.name, "damage": label, "fault": message})
                    log(f"{state_file.name}, {label}: {message}"[:600])
        table[state_file.name] = {kind: counts[kind] for kind in ("named", "read", "fault")}
    total = {kind: sum(row[kind] for row in table.values()) for kind in ("named", "read", "fault")}
    return {"damages": sum(total.values()), **total, "files": table, "faults": faults}


def define_flags() -> None:
    """Define the flags."""
    record.define_output("state_files")
    absl_flags.DEFINE_bool("verbose", False, "print a line for every file")


def main(arguments: list[str]) -> int:
    """Run all damages; exit 1 if any is a fault."""
    del arguments
    results = measure()
    record.write(results)
    if FLAGS.verbose:
        for name, row in results["files"].items():
            print(f"{name}: {row}")
    print(
        f"state files: {results['damages']} damages to {len(STATE_FILES)} files, "
        f"{results['named']} refused by name, {results['read']} read, {results['fault']} faults"
    )
    return 1 if results["fault"] else 0


if __name__ == "__main__":
    flags.run(main, define_flags)
