"""The web page: one template, one style sheet, one script; everything it shows it gets from the HTTP API."""
