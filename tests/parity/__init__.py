"""The numbers of the published model, on synthetic weights in its layout. Data: `tests/data/parity`."""
