"""Commands that use the model on this machine, without the platform."""
