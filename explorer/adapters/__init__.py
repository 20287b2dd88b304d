"""From files that others made to LowRank updates: formats, safe reading, sources."""
