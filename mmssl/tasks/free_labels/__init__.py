"""Tasks whose labels are free because a renderer, or the film itself, made them."""
