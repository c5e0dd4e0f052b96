"""Consistency checks of database, queue and object store, and their repairs: `mmaudio doctor`."""
