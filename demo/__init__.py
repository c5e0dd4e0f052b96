"""`make demo`: one real video through the whole platform, on this machine, in a folder of its own."""
