"""API keys: what they allow, how they are made, found, rotated and revoked."""
