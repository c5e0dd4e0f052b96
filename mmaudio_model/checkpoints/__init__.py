"""Where weights come from: published files, or a fixed seed. Networks are built empty and filled once."""
