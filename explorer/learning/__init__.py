"""Routers that learn from examples, and what they learned kept beside the library."""
