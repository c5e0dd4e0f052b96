"""Files in, files out: probing and decoding video and pictures, writing sound, muxing. Never imports torch.

Input files are untrusted; the platform runs this package in a sandboxed process.
"""
