"""The shapes in which object stores tell of new objects, each read by a module of its own. Pure: no network, no SQL."""
