"""What a user takes away: a static combination as a PEFT adapter, or the library ready for PEFT's own Arrow."""
