"""Optimal transport: assignment of minibatches."""
