"""Files in, files out: probing and decoding video and pictures, writing sound, muxing. Never imports torch.

Whatever comes in here was made by a stranger; the platform runs this package in a sandboxed process.
"""
