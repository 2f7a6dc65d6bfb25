"""How the student learns: state, optimizer, devices, step, checkpoints, logs and the loop."""
