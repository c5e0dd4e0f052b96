"""The cache of what the encoders gave: among the jobs in hand, on local disk, in the object store for all workers."""
