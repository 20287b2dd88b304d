"""Base models, a library attached to one, and generation."""
