"""Requests and responses as types, one module per resource. The OpenAPI document and all answers come from them."""
