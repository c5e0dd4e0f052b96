"""The calls of Replicate's HTTP API that its clients make for a model like this one."""
