"""Tensors and arrays only: the networks of `mfd contig` and its mathematics. Nothing here opens a file."""
