"""How each part of a variant is trained: what a batch holds, and the loss. One file a part."""
