"""metrics.jsonl and optional writers."""

import json

import pytest

from zeroseg_jax.training import metrics


def test_metrics_keep_each_step_once(tmp_path, configure):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    sinks = metrics.Sinks(tmp_path, 2, configure())
    sinks.write({"step": 3, "again": True})
    sinks.close()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_damaged_lines_are_removed(tmp_path, configure):
    path = tmp_path / "metrics.jsonl"
    lines = (
        b'{"step": 1}',
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"step": "1"}',
        b"\xff\xfe",
        b"[" * 10**5,
    )
    path.write_bytes(b"\n".join(lines))
    metrics.Sinks(tmp_path, 2, configure()).close()
    assert path.read_text() == '{"step": 1}\n'


def test_wandb_that_is_not_there_is_said(tmp_path, configure, clip, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--wandb_project: wandb is not installed"):
        metrics.Sinks(tmp_path, 0, configure(), "project")
