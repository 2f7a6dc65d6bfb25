"""Prompt templates by set, in the field's usual names.

| set | templates | source |
|---|---|---|
| imagenet | 80 | CLIP's prompts for ImageNet |
| subset | 7 | the seven of them that CLIP's authors found best together |
| simple | 1 | GroupViT |
| tcl | 9 | `subset` and two plurals, TCL |
| maskclip | 85 | `imagenet` and five of scenes, MaskCLIP |
| zegclip, zegclip_single | 15, 1 | ZegCLIP on COCO-Stuff and Context; on VOC |
| playground | 4 | forms of the Playground's captions (own) |
"""

from __future__ import annotations

_PHOTO = (
    "a bad photo of a {}.", "a photo of many {}.", "a photo of the hard to see {}.",
    "a low resolution photo of the {}.", "a bad photo of the {}.", "a cropped photo of the {}.",
    "a photo of a hard to see {}.", "a bright photo of a {}.", "a photo of a clean {}.",
    "a photo of a dirty {}.", "a dark photo of the {}.", "a photo of my {}.",
    "a photo of the cool {}.", "a close-up photo of a {}.", "a black and white photo of the {}.",
    "a pixelated photo of the {}.", "a bright photo of the {}.", "a cropped photo of a {}.",
    "a photo of the dirty {}.", "a jpeg corrupted photo of a {}.", "a blurry photo of the {}.",
    "a photo of the {}.", "a good photo of the {}.", "a photo of one {}.",
    "a close-up photo of the {}.", "a photo of a {}.", "a low resolution photo of a {}.",
    "a photo of the clean {}.", "a photo of a large {}.", "a photo of a nice {}.",
    "a photo of a weird {}.", "a blurry photo of a {}.", "a pixelated photo of a {}.",
    "a jpeg corrupted photo of the {}.", "a good photo of a {}.", "a photo of the nice {}.",
    "a photo of the small {}.", "a photo of the weird {}.", "a photo of the large {}.",
    "a black and white photo of a {}.", "a dark photo of a {}.", "a photo of a cool {}.",
    "a photo of a small {}.",
)  # fmt: skip
_ART = (
    "a sculpture of a {}.", "a rendering of a {}.", "graffiti of a {}.", "a tattoo of a {}.",
    "the embroidered {}.", "a drawing of a {}.", "the plastic {}.", "a painting of the {}.",
    "a painting of a {}.", "a sculpture of the {}.", "a plastic {}.", "a rendering of the {}.",
    "a {} in a video game.", "the origami {}.", "the {} in a video game.", "a origami {}.",
    "the toy {}.", "a rendition of a {}.", "a cartoon {}.", "art of a {}.",
    "a sketch of the {}.", "a embroidered {}.", "a plushie {}.", "the cartoon {}.",
    "the plushie {}.", "a toy {}.", "a rendition of the {}.", "art of the {}.",
    "a sketch of a {}.", "a doodle of a {}.", "a doodle of the {}.", "a tattoo of the {}.",
    "graffiti of the {}.", "a drawing of the {}.", "itap of a {}.", "itap of my {}.",
    "itap of the {}.",
)  # fmt: skip
PROMPTS: dict[str, tuple[str, ...]] = {
    "simple": ("a photo of a {}.",),
    "subset": (
        "itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}.",
        "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
    ),
    "imagenet": _PHOTO + _ART,
    "playground": ("{}", "a {}", "a photo of a {}", "a picture of a {}"),
}  # fmt: skip
PROMPTS["tcl"] = (*PROMPTS["subset"], "a photo of many {}.", "a photo of {}s.")
PROMPTS["maskclip"] = (
    *PROMPTS["imagenet"], "there is a {} in the scene.", "there is the {} in the scene.",
    "this is a {} in the scene.", "this is the {} in the scene.", "this is one {} in the scene.",
)  # fmt: skip
PROMPTS["zegclip_single"] = ("a photo of a {}",)
PROMPTS["zegclip"] = (
    "a photo of a {}.", "a photo of a small {}.", "a photo of a medium {}.",
    "a photo of a large {}.", "This is a photo of a {}.", "This is a photo of a small {}.",
    "This is a photo of a medium {}.", "This is a photo of a large {}.", "a {} in the scene.",
    "a photo of a {} in the scene.", "There is a {} in the scene.", "There is the {} in the scene.",
    "This is a {} in the scene.", "This is the {} in the scene.", "This is one {} in the scene.",
)  # fmt: skip
