"""Where files live: one protocol, a local folder and S3 behind it. `open_store` picks by URL."""
