"""Pretext tasks that make a part of the data from the rest."""
