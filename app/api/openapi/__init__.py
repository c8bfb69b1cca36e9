"""What the service says of itself to programs: the OpenAPI document."""

from app.api.openapi.document import describe

__all__ = ["describe"]
