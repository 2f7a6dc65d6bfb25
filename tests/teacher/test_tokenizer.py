"""Tokenizers against Hugging Face's."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.tokenizer import digest_tokenizer, load_tokenizer
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

TEXTS = ["A red STAR", "a dog's day, isn't it?", "", "   ", "naïve café", "星と月", "🙂🙃",
         "star " * 90, "a  b\tc\nd", "rock'n'roll", "e\u0301 vs é", "x" * 300,
         "<|endoftext|>"]  # fmt: skip
TOWER = TowerConfig(16, 1, 1, 32, "gelu", 1e-6)


def config(family, vocabulary, tokens=16):
    return ClipConfig(TOWER, TOWER, 16, 32, 8, family, vocabulary, tokens, vocabulary - 1)


def copy_tokenizer(clip, directory, *names):
    for name in names or ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        shutil.copy(clip.directory / name, directory)


@pytest.fixture
def corpus():
    clip = load_teacher("playground")
    words = list(json.loads((clip.directory / "vocab.json").read_text()))
    return [f"a photo of {w} and {v}" for w in words[:60] for v in words[60:80]]


def test_clip_tokens_from_either_kind_of_file(tmp_path):
    transformers = pytest.importorskip("transformers")
    clip = load_teacher("playground")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(clip.directory / name, tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(str(clip.directory))
    length = clip.config.context_tokens
    for directory in (clip.directory, tmp_path):
        ours = load_tokenizer(directory, clip.config)
        for text in TEXTS:
            expected = theirs(text, padding="max_length", max_length=length, truncation=True)
            assert ours([text])[0].tolist() == expected["input_ids"], text


def test_siglip_tokens_equal_hugging_faces(tmp_path, corpus):
    """SigLIP: sentencepiece, lower case, punctuation gone, padded with its end token."""
    sentencepiece = pytest.importorskip("sentencepiece")
    transformers = pytest.importorskip("transformers")
    (tmp_path / "corpus.txt").write_text("\n".join(corpus))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"), model_prefix=str(tmp_path / "spiece"), vocab_size=300,
        hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, model_type="unigram", minloglevel=2,
    )  # fmt: skip
    made = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"), model_max_length=16)
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    ours = load_tokenizer(tmp_path, config("siglip", 400))
    for text in TEXTS:
        expected = made(text, padding="max_length", max_length=16, truncation=True)["input_ids"]
        found = ours([text])[0]
        assert found.tolist() == expected, text
        assert found.dtype == np.int32 and len(found) == 16
    np.testing.assert_array_equal(ours(["A RED star!"]), ours(["a red star"]))
    assert ours([]).shape == (0, 16)


def test_siglip_without_sentencepiece_is_one_sentence(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def refuse(*_, **__):
        raise ImportError("SiglipTokenizer requires the SentencePiece library")

    # transformers raises this where the extra is not installed.
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    (tmp_path / "spiece.model").write_bytes(b"any")
    with pytest.raises(CheckpointError, match=r"pip install \"zeroseg_jax\[siglip\]\""):
        load_tokenizer(tmp_path, config("siglip", 400))


def test_siglip_2_tokens_equal_hugging_faces(tmp_path, corpus):
    """SigLIP 2: Gemma's tokenizer, padded with <pad>, on lower case whatever the files say."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    tokenizer.train_from_iterator(
        [*corpus, *(text.upper() for text in corpus)],
        trainers.BpeTrainer(vocab_size=500, special_tokens=special),
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", padding_side="right",
    )  # fmt: skip
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for kind in ("Siglip2Tokenizer", "GemmaTokenizer"):  # the published files say the latter
        settings["tokenizer_class"] = kind
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        theirs = getattr(transformers, kind).from_pretrained(tmp_path)
        ours = load_tokenizer(tmp_path, config("siglip", 1000))
        for text in TEXTS:
            expected = theirs(text.lower(), padding="max_length", max_length=16, truncation=True)
            assert ours([text])[0].tolist() == expected["input_ids"], text
        np.testing.assert_array_equal(ours(["A RED Star"]), ours(["a red star"]))
        assert (ours(["a"])[0][-4:] == theirs.pad_token_id).all()
    gemma = theirs("A RED STAR")["input_ids"]
    assert gemma != theirs("a red star")["input_ids"]  # so that the test could fail


def test_tokenizers_that_do_not_fit(tmp_path):
    clip = load_teacher("playground")
    size = clip.config.vocabulary
    for other in (40, size - 1, size + 2000):  # a table may be padded, but not by so much
        with pytest.raises(CheckpointError, match=f"tokens, but the text tower has {other}"):
            load_tokenizer(clip.directory, dataclasses.replace(clip.config, vocabulary=other))
    with pytest.raises(CheckpointError, match="the text tower is pooled at token"):
        load_tokenizer(clip.directory, config("clip", size + 1))
    with pytest.raises(
        CheckpointError, match="tokenizer.json, or vocab.json and merges.txt, is missing"
    ):
        load_tokenizer(tmp_path, config("clip", 40))
    with pytest.raises(CheckpointError, match="spiece.model or tokenizer.json is missing"):
        load_tokenizer(tmp_path, config("siglip", 40))
    for broken, reason in (
        ("{", "not valid JSON"), ("[]", "holds a JSON list"), ("{}", "no model with a vocabulary"),
        ('{"model": {"vocab": 3}}', "no model with a vocabulary"),
    ):  # fmt: skip
        (tmp_path / "tokenizer.json").write_text(broken)
        for family in ("clip", "siglip"):
            with pytest.raises(CheckpointError, match=reason):
                load_tokenizer(tmp_path, config(family, 40))


def test_the_digest_covers_the_tokenizer_files(tmp_path):
    clip = load_teacher("playground")
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
        copy_tokenizer(clip, directory)
    assert len({digest_tokenizer(directory) for directory in directories}) == 1
    (directories[1] / "merges.txt").write_text("a b\n")
    assert len({digest_tokenizer(directory) for directory in directories}) == 2


def test_metaclip_tokens_are_padded_behind_their_end_token(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "dog": 5}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    settings = dataclasses.replace(config("metaclip_2", 6, 5), end_token=2)
    encode = load_tokenizer(tmp_path, settings)
    rows = encode(["a dog", "a a a a a a", ""])
    assert rows.tolist() == [[0, 4, 5, 2, 1], [0, 4, 4, 4, 2], [0, 2, 1, 1, 1]]
    assert encode([]).shape == (0, 5)
    with pytest.raises(CheckpointError, match="pooled at token 5"):
        load_tokenizer(tmp_path, config("metaclip_2", 6, 5))


def test_tips_tokens_equal_sentencepieces(tmp_path, corpus):
    """Plain sentencepiece on tokenizer.model: lower case, no begin or end, padded with 0."""
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(tmp_path / "tokenizer"), vocab_size=600,
        model_type="bpe", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, byte_fallback=True,
        hard_vocab_limit=False,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    size = pieces.get_piece_size()
    encode = load_tokenizer(tmp_path, config("tipsv2", size))
    texts = ["A Photo of a DOG", "", "dog " * 40]
    rows = encode(texts)
    for row, text in zip(rows, texts, strict=True):
        ids = pieces.encode(text.lower())[:16]
        assert row.tolist() == ids + [0] * (16 - len(ids))
    with pytest.raises(CheckpointError, match="the text tower has"):
        load_tokenizer(tmp_path, config("tipsv2", size - 1))
    (tmp_path / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tokenizer(tmp_path, config("tipsv2", size))
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json or tokenizer.model is missing"):
        load_tokenizer(tmp_path, config("tipsv2", size))


def test_tips_tokens_from_tokenizer_json(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "dog": 3}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    encode = load_tokenizer(tmp_path, config("tipsv2", 4, 5))
    rows = encode(["A DOG", "a a a a a a dog", "cat"])
    assert rows.tolist() == [[2, 3, 0, 0, 0], [2] * 5, [1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("merges.txt", b"3"), ("merges.txt", b"a b c\n"), ("merges.txt", b"\xff\xfe\n"),
        ("merges.txt", b"#version: 0.2\nzz qq\n"), ("vocab.json", b'{"a": -1}'),
        ("vocab.json", b'{"a": "1"}'), ("vocab.json", b"[]"), ("vocab.json", b'{"a": true}'),
        ("tokenizer_config.json", b"[]"), ("tokenizer_config.json", b"null"),
        ("tokenizer_config.json", b"[" * 200_000), ("special_tokens_map.json", b"3"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path, name, content):
    """Tokenizers raises a bare Exception for some of them, transformers a TypeError."""
    clip = load_teacher("playground")
    copy_tokenizer(clip, tmp_path, "tokenizer_config.json", "vocab.json", "merges.txt")
    load_tokenizer(tmp_path, clip.config)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: "):
        load_tokenizer(tmp_path, clip.config)
