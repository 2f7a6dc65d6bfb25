"""The frozen teacher: CLIP towers, class embeddings, dense read-outs, the bank and its regions."""
