"""MBC: how alike adapters are, clusters of them, and a map."""
