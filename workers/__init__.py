"""Worker and control processes: the engine that owns a device, the jobs around it, and the supervisor of both."""
