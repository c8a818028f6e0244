"""Decoders behind one protocol: encoded clip and window in, clip out."""
