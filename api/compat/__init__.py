"""Calls in the shapes of hosted services, so that their official clients work with another base URL and key alone."""
