"""`mmaudio doctor`: compares database, queue and object store, reports where they disagree, and repairs it on request."""
