"""The field's metrics, on other people's networks where their package and weights are present. Never a download.

`formulas` has what is computed, one adapter a network says how to ask it, `finding` whether it is there, `evaluate`
puts them together. Settings are those of av-benchmark, by which MMAudio was published.
"""
