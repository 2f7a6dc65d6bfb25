"""SegFormer from Hugging Face's files, against torch."""

import copy
import json

import jax
import numpy as np
import pytest

from zeroseg_jax.config import DenseStudentConfig, ModelConfig
from zeroseg_jax.models.clip_zss import segformer
from zeroseg_jax.models.clip_zss import segformer_weights as weights
from zeroseg_jax.models.clip_zss.student import apply_dense, build_dense_student, init_dense_params

torch = pytest.importorskip("torch", reason="parity needs torch, see make test")
SIZES = {
    "hidden_sizes": [8, 12, 20, 24],
    "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 2, 5, 4],
    "sr_ratios": [8, 4, 2, 1],
    "decoder_hidden_size": 16,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A random segmentation model, its batch norm with statistics of its own."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(SegformerConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        norm = model.decode_head.batch_norm
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    directory = tmp_path_factory.mktemp("segformer")
    model.save_pretrained(directory)
    return model, directory


@pytest.fixture(scope="module")
def answers(saved):
    """Ours and torch's, on a picture whose sides are not powers of two."""
    model, directory = saved
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)
    with torch.no_grad():
        found = model(torch.tensor(images.transpose(0, 3, 1, 2)), output_hidden_states=True)
        head = model.decode_head
        head.classifier = torch.nn.Identity()
        hidden = head(found.hidden_states)
    theirs = [h.numpy().transpose(0, 2, 3, 1) for h in (*found.hidden_states, hidden)]
    params = weights.read_segformer(directory)
    encoder = segformer.MixTransformer(weights.read_mit_config(directory))
    maps = jax.jit(encoder.apply)({"params": params["encoder"]}, images)
    mlp = segformer.AllMlpHead(SIZES["decoder_hidden_size"])
    ours = [*maps, jax.jit(mlp.apply)({"params": params["head"]}, maps)]
    return ours, theirs


@pytest.mark.parametrize("stage", range(5), ids=["1", "2", "3", "4", "head"])
def test_parity_with_torch(answers, stage):
    ours, theirs = (side[stage] for side in answers)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_head_with_batch_norm_is_torchs_in_training_and_at_rest(saved):
    """The norm is kept: the batch's statistics in training, the running ones else."""
    model, directory = saved
    rng = np.random.default_rng(1)
    maps = [
        rng.normal(size=(3, 16 >> i, 24 >> i, width)).astype(np.float32)
        for i, width in enumerate(SIZES["hidden_sizes"])
    ]
    hidden = SIZES["decoder_hidden_size"]
    params = weights.read_segformer(directory, "batch")["head"]
    head = segformer.AllMlpHead(hidden, norm="batch")
    theirs = copy.deepcopy(model.decode_head)
    theirs.classifier, theirs.dropout = torch.nn.Identity(), torch.nn.Identity()
    apply = jax.jit(head.apply)
    given = [torch.tensor(x.transpose(0, 3, 1, 2)) for x in maps]

    def check(ours):
        with torch.no_grad():
            wanted = theirs(given).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)

    check(apply({"params": params}, maps))
    theirs.train()
    train = jax.jit(lambda p, x: head.apply({"params": p}, x, mutable=[segformer.STATISTICS]))
    for _ in range(3):
        ours, found = train(params, maps)
        check(ours)
        params = {
            **params,
            "fuse_norm": {**params["fuse_norm"], **found["statistics"]["fuse_norm"]},
        }
    norm = theirs.batch_norm
    for name, running in (("mean", norm.running_mean), ("variance", norm.running_var)):
        np.testing.assert_allclose(params["fuse_norm"][name], running.numpy(), rtol=1e-5, atol=1e-6)
    theirs.eval()
    check(apply({"params": params}, maps))
    shapes = jax.eval_shape(head.init, jax.random.key(0), maps)["params"]
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, params)


def test_our_own_parameters_have_the_names_that_are_read(saved):
    config = weights.read_mit_config(saved[1])
    shapes = jax.eval_shape(
        segformer.MixTransformer(config).init, jax.random.key(0), np.zeros((1, 32, 32, 3))
    )["params"]
    read = weights.read_segformer(saved[1])["encoder"]
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, read)


def test_a_student_starts_from_a_segmentation_model_with_and_without_its_norm(tmp_path):
    """Both read the same function: one keeps the batch norm, the other folds it."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    tiny = segformer.MIT_SIZES["mit_tiny"]
    sizes = {
        "hidden_sizes": list(tiny.widths), "depths": list(tiny.depths),
        "num_attention_heads": list(tiny.heads), "sr_ratios": list(tiny.reductions),
    }  # fmt: skip
    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(SegformerConfig(**sizes, decoder_hidden_size=16))
    with torch.no_grad():
        model.decode_head.batch_norm.running_mean.normal_()
        model.decode_head.batch_norm.running_var.uniform_(0.5, 2)
    model.save_pretrained(tmp_path)
    size = ModelConfig(image_px=32, embed_dim=8)
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    shared = {"encoder": "mit_tiny", "synthesizer_width": 16, "synthesizer_depth": 1}
    answers = []
    for norm in ("none", "batch"):
        settings = DenseStudentConfig(**shared, head_width=16, head_norm=norm)
        student = build_dense_student(size, settings)
        shapes = jax.eval_shape(lambda s=student: init_dense_params(s, jax.random.key(0)))
        drawn = {
            name: jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), shapes[name])
            for name in ("projection", "synthesizer")
        }
        params = weights.init_from_segformer(drawn, tmp_path, settings)
        assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: x.shape, shapes)
        answers.append(jax.jit(apply_dense, static_argnums=0)(student, params, images))
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)
    narrow = DenseStudentConfig(**shared, head_width=8, head_norm="batch")
    with pytest.raises(ValueError, match="clip_zss.student.head_width: 8, but .* 16 wide"):
        weights.init_from_segformer(drawn, tmp_path, narrow)


@pytest.mark.parametrize("name", [f"mit_b{i}" for i in range(6)])
def test_published_parameter_counts(name):
    """As the paper's table 6 of encoders, in millions."""
    millions = {"mit_b0": 3.3, "mit_b1": 13.2, "mit_b2": 24.2, "mit_b3": 44.0, "mit_b4": 60.8,
                "mit_b5": 81.4}  # fmt: skip
    model = segformer.MixTransformer(segformer.MIT_SIZES[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert abs(count / 1e6 - millions[name]) < 0.1  # printed to one digit, some cut off


def test_what_does_not_fit_is_one_sentence(saved, tmp_path):
    _, directory = saved
    config = json.loads((directory / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "depths": [2, 2, 1, 1]}))
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="missing encoder.block.0.1"):
        weights.read_segformer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type is 'bert', not 'segformer'"):
        weights.read_segformer(tmp_path)
    with pytest.raises(ValueError, match="set clip_zss.student.encoder to its size"):
        weights.init_from_segformer({}, directory, DenseStudentConfig(encoder="mit_b0"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="damaged or truncated"):
        weights.read_segformer(tmp_path)
