"""Rewrite tests/golden/guards: python -m tests.regenerate_guards [GUARD ...], all by default.

The files under artifacts/ stand for what people have on their disks, so they are written once, by
`python -m tests.regenerate_guards artifacts` where there are none, and never again.
"""

import json
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

# conftest sets the devices and the compiler's flags before jax starts.
from tests import conftest, guards
from zeroseg_jax import Predictor
from zeroseg_jax.inference.model import load
from zeroseg_jax.inference.model_files import read_facts, write_pretrained
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training.checkpoint import load_params

assert conftest


def write_json(name, content):
    path = guards.FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_lines(name, shapes):
    """Write JSON with one parameter a line, so that differences are easy to read."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in shapes.items()]
    path = guards.FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_parameters(scratch):
    for model, shapes in guards.describe_parameters(scratch).items():
        write_lines(f"parameters/{model}.json", shapes)


def write_programs(scratch):
    del scratch
    write_json("step_programs.json", guards.describe_programs())


def write_training(scratch):
    clip = load_teacher("playground")
    guards.write_bank(scratch / "bank", clip)
    write_json("bank_files.json", guards.digest_bank(scratch / "bank"))
    np.savez_compressed(guards.FOLDER / "bank_records.npz", **guards.read_bank(scratch / "bank"))
    write_json(
        "losses.json",
        {
            name: guards.train_losses(mapping, scratch / name, clip, scratch / "bank")
            for name, mapping in (("zeroseg", guards.ZEROSEG), ("clip_zss", guards.CLIP_ZSS))
        },
    )


def write_predictor(scratch):
    del scratch
    predictor = Predictor.from_pretrained("playground")
    for name, shapes in (("square", guards.SQUARES), ("other", guards.OTHERS)):
        found = guards.predict(predictor, shapes)
        np.savez_compressed(guards.FOLDER / f"predictor_{name}.npz", **found)


def write_evaluation(scratch):
    del scratch
    student = load("playground")
    for name, shapes in (("square", guards.SQUARES), ("other", guards.OTHERS)):
        found = guards.segment_for_evaluation(student, shapes)
        np.savez_compressed(guards.FOLDER / f"evaluation_{name}.npz", **found)


def write_reports(scratch):
    write_json("reports.json", guards.score_benchmarks(load("playground"), scratch))


def write_flags(scratch):
    del scratch
    write_json("flags.json", guards.describe_flags())


def write_artifacts(scratch):
    if guards.ARTIFACTS.exists():
        print("artifacts: there, and left as they are")
        return
    clip = load_teacher("playground")
    work = scratch / "clip_zss_run"
    guards.write_bank(work / "bank", clip)
    shutil.rmtree(work / "bank" / "regions" / "pictures")
    losses = guards.train_losses(guards.CLIP_ZSS, work, clip)
    guards.train_losses(guards.ZEROSEG, scratch / "zeroseg_run", clip, work / "bank")
    for name in ("zeroseg", "clip_zss"):
        run = scratch / f"{name}_run"
        params, config, step = load_params(run)
        write_pretrained(
            params, config, guards.ARTIFACTS / f"{name}_student", read_facts(run), step=step,
            teacher="playground", dtype="float16",
        )  # fmt: skip
    # The run as it was after step 4.
    shutil.rmtree(work / "checkpoints" / "8")
    metrics = work / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:4]))
    with tarfile.open(guards.ARTIFACTS / "clip_zss_run.tar.xz", "w:xz") as archive:
        archive.add(work, arcname=".")
    answers, steps = {}, {}
    for name, directory in guards.list_artifacts(work):
        steps[name], mask, scores = guards.ask_artifact(directory)
        answers |= {f"{name}_mask": mask, f"{name}_scores": scores}
    np.savez_compressed(guards.ARTIFACTS / "answers.npz", **answers)
    records = guards.digest_arrays(guards.read_bank(work / "bank"))
    write_json("artifacts/facts.json", {"steps": steps, "losses": losses, "records": records})


GUARDS = {
    "parameters": write_parameters,
    "programs": write_programs,
    "training": write_training,
    "predictor": write_predictor,
    "evaluation": write_evaluation,
    "reports": write_reports,
    "flags": write_flags,
    "artifacts": write_artifacts,
}


def main(names):
    """Write the named guards."""
    for name in names or GUARDS:
        begin = time.time()
        with tempfile.TemporaryDirectory() as scratch:
            GUARDS[name](Path(scratch))
        print(f"{name}: {time.time() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
