"""Tasks whose labels come for free: from a renderer, from the codec, or from what was done to a picture."""
