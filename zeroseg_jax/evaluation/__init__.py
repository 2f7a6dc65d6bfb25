"""Evaluation of models on benchmarks: metric, diagnostics, reports, comparisons."""
