"""Tasks that tell what belongs together from what does not."""
