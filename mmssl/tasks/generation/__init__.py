"""Tasks that make pictures or sounds."""
