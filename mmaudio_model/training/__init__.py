"""Training from scratch on the procedural world, and fine-tuning of the flow network."""
