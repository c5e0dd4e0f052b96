"""One module a resource; each view parses, calls the domain, presents."""
