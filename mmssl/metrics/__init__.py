"""Metrics: pure functions, each tested against an independent implementation or an analytic case."""
