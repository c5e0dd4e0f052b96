"""`mmaudio doctor`: compares SQL, belt and object store, says where they disagree, and mends it when asked to."""
