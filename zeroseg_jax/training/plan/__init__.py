"""Planning of a run: memory, operations, communication and time of its step on a TPU slice."""
