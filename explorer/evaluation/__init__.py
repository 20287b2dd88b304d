"""Evaluation: how well each router answers each task, with standard errors, and what likeness of adapters predicts."""
