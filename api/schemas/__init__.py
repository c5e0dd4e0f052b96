"""What goes in and comes out, as types: the source of the OpenAPI document. One module a resource."""
