"""Maps of where a sound comes from, their metrics and overlays."""
