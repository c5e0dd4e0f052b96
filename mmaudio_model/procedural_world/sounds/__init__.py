"""Sound synthesis: modal synthesis for impacts, filtered noise for textures, harmonic tones for engines and sirens."""
