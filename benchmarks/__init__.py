"""Measurements. Each prints a table and compares with a named baseline in the same run; none is a test."""
