"""Typed records of results: what the page shows, whether just computed or stored."""
