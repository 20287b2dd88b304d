"""LoRA library explorer."""
