"""Tasks that learn from the arrangement of a picture or of frames in time."""
