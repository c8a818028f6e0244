"""Tasks that learn from the agreement of picture, sound and text."""
