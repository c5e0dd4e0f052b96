"""Limits of what the keys of a tenant may do: requests a minute, and requests that wait at once."""
