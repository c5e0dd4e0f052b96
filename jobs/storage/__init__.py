"""Object storage: one protocol with a folder and an S3 backend; `factory.open_store` picks one by URL."""
