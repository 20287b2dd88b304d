"""Tasks: prompts with reference answers, from files of many origins, split into training, validation and test rows."""
