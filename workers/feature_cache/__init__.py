"""Features that the encoders computed before: in memory, on local disk and in the object store.

Computing features does not belong here: that is `mmaudio_model`, on the thread of `workers.engine`.
"""
