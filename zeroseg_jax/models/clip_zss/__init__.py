"""CLIP-ZSS (arXiv 2310.02296): dense student, SegFormer, prototype synthesizer, losses."""
