"""Requests that a program makes up from the OpenAPI document: what no person would think of."""
