"""Small random models of further families, in the files that their repositories publish.

transformers' torch models write the weights; tokenizers are trained on a few sentences.
"""

import json

import small_clips
import small_hub
from safetensors.numpy import save_file

TOWER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
_SENTENCES = [
    f"a {kind} of the {one} and a {two} on the {place}"
    for kind in ("photo", "drawing", "picture", "bad photo", "close-up")
    for one in ("dog", "cat", "sofa", "chair", "tree", "wall", "background")
    for two in ("road", "sky", "house", "water", "mountain", "bridge")
    for place in ("grass", "floor", "street", "river")
]
_CONTEXT = 64


def write_tips(directory):
    """Write TIPSv2: config.json, model.safetensors, tokenizer.model (plain sentencepiece)."""
    import sentencepiece
    import transformers

    directory.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES), model_prefix=str(directory / "tokenizer"),
        vocab_size=400, model_type="bpe", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
        byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (directory / "tokenizer.vocab").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    text = {**TOWER, "intermediate_size": 48, "vocab_size": pieces.get_piece_size(),
            "max_position_embeddings": _CONTEXT}  # fmt: skip
    vision = {**TOWER, "image_size": 56, "patch_size": 14}
    config = transformers.Tipsv2Config(vision_config=vision, text_config=text)
    transformers.Tipsv2Model(config).save_pretrained(directory)
    return directory


def write_siglip2(directory):
    """Write SigLIP 2 of fixed size: Gemma's tokenizer.json, smaller than the table of words."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    part = {**TOWER, "intermediate_size": 48}
    text = {**part, "vocab_size": 512, "max_position_embeddings": _CONTEXT, "projection_size": 32}
    config = transformers.SiglipConfig(
        vision_config={**part, "image_size": 224, "patch_size": 16}, text_config=text
    )
    transformers.SiglipModel(config).save_pretrained(directory)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", padding_side="right",
    ).save_pretrained(directory)  # fmt: skip
    path = directory / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "GemmaTokenizer"})
    )
    return directory


def write_metaclip2(directory):
    """Write MetaCLIP 2: CLIP's tensors, a tokenizer.json that ends texts with id 2."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    part = {**TOWER, "intermediate_size": 48, "projection_dim": 32, "bos_token_id": 0}
    text = {**part, "vocab_size": tokenizer.get_vocab_size(), "eos_token_id": 2,
            "max_position_embeddings": 77}  # fmt: skip
    config = transformers.MetaClip2Config(
        vision_config={**part, "image_size": 224, "patch_size": 16}, text_config=text,
        projection_dim=32,
    )  # fmt: skip
    transformers.MetaClip2Model(config).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def write_dino(directory):
    """Write DINO v1: a ViT with a class token and a pooler, no text tower."""
    import transformers

    config = transformers.ViTConfig(**TOWER, intermediate_size=48, image_size=64, patch_size=8)
    transformers.ViTModel(config).save_pretrained(directory)
    return directory


def write_laion(directory):
    """Write LAION's layout: OpenCLIP's config, and the weights under the name of a bot."""
    small_hub.write_timm(directory)
    tensors = small_clips.to_open_clip(small_hub.random_tensors())
    for name in ("open_clip_model.safetensors", "model.safetensors", "config.json"):
        (directory / name).unlink()
    save_file(tensors, directory / "open_clip_pytorch_model.safetensors")
    return directory


WRITERS = {
    "tipsv2-b14": write_tips, "siglip2-b16": write_siglip2, "metaclip2-b16": write_metaclip2,
    "laion-b16": write_laion, "dino-b8": write_dino, "dinov2": small_hub.write_dinov2,
    "clip-b16": small_hub.write_timm,
    "clip-l14": lambda directory: small_hub.write_clip(directory, shards=True),
}  # fmt: skip
