"""One module per resource; each view parses the request, calls the domain and returns a document."""
