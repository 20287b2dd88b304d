"""The page: all that names gradio, and the figures and texts that it shows."""
