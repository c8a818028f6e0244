"""Losses: pure functions, tensors in, scalar out, computed in float32 under autocast."""
