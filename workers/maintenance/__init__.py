"""The control process: leader election and the periodic maintenance loops.

What a round of maintenance does belongs to `jobs.service.maintenance` and `jobs.service.retention`.
"""
