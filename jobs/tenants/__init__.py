"""What operators set for tenants: where they may read and write, and their limits."""
