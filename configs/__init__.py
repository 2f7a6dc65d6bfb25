"""Recipes, one a file: `--config=NAME` or `--config=NAME:VARIANT` from any folder."""
