"""Bytes of subtitle tracks."""

from __future__ import annotations

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
DVB_END_OF_SET = b"\x0f\x80\x00\x01\x00\x00"
"""The segment that ends a set of pictures in DVB subtitles."""
TELETEXT = b"\x10" + b"\x02\x2c" + b"\xe7\xe4" + b"\x20" * 42
"""One line of an EBU teletext subtitle: data identifier, then one unit of 46 bytes."""
