"""ZeroSeg (arXiv 2306.00450): student, masking, decoder, grouping, losses; own terms apart."""
