"""Reads and writes untrusted media files, each in a sandboxed process of its own.

Decoding and muxing themselves belong to `mmaudio_model.media`.
"""
