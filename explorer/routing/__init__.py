"""Routers, what they see of a library at one module, and the record of what they did."""
