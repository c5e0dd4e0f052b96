"""Parsers for the notification formats of object stores, one module per format. Pure: no network, no SQL."""
