"""Gradio app around Predictor: an image and class names in, an overlay and a table out.

MODEL is the model's name, clip-b16 by default; MODEL=playground needs no network.
"""

import os
from pathlib import Path

import gradio as gr
from PIL import Image

from zeroseg_jax import Predictor
from zeroseg_jax.data.transforms import to_image

MOST_PX = 1600  # long side; a larger image is shrunk before it is segmented
MODEL = os.environ.get("MODEL", "clip-b16")
EXAMPLE = Path(__file__).with_name("scene.png")
predictor = Predictor.from_pretrained(MODEL)


def segment(path: str | None, words: str) -> tuple[Image.Image, list[list[object]]]:
    """Return the overlay, and name, share of the image and score of each class."""
    if path is None:
        raise gr.Error("Choose an image first.")
    try:
        image = Image.fromarray(to_image(path))
        image.thumbnail((MOST_PX, MOST_PX))
        result = predictor.segment(image, words)
    except (ValueError, OSError) as error:
        raise gr.Error(str(error)) from error
    rows = [[c["word"], f"{100 * c['area']:.1f} %", c["score"]] for c in result.classes]
    return result.overlay(), rows


note = predictor.facts.get("note")
drawn = MODEL == "playground" and EXAMPLE.is_file()
demo = gr.Interface(
    segment,
    [
        gr.Image(type="filepath", label="Image"),
        gr.Textbox(label="Class names", placeholder="dog, sofa, floor"),
    ],
    [
        gr.Image(label="Classes", format="png"),
        gr.Dataframe(headers=["class", "area", "score"], label="Areas and scores"),
    ],
    title="Open-vocabulary segmentation",
    description="Name the things in the image, separated by commas. "
    f"Model: {MODEL}" + (f" ({note})." if note else "."),
    examples=[[str(EXAMPLE), "moon, cross, sky, grass"]] if drawn else None,
    cache_examples=False,
    flagging_mode="never",
    api_name="segment",
)

if __name__ == "__main__":
    demo.launch()
