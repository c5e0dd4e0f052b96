"""How things sound: modal synthesis for impacts, filtered noise for textures, harmonics for what turns or wails."""
