"""Metrics on third-party pretrained networks, if their package and weights are installed. Never downloads.

`formulas` computes the metrics, an adapter per network runs it, `loading` checks whether it is available, `evaluate`
combines them. Settings are those of av-benchmark, which the MMAudio paper used.
"""
