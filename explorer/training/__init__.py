"""Training: one private LoRA adapter per task, the library of the paper's section 3 before any clustering."""
