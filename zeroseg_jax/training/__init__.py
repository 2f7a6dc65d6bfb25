"""Training: one loop for both methods, with checkpoints, meshes, metrics and planning."""
