"""Benchmarks. Each prints a table and compares with a baseline in the same run; none is a test."""
