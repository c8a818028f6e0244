"""Corpora whose layout on disk is known."""
