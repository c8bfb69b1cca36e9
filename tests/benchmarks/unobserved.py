"""The service as it is, but that nobody is told what happens: what telling costs is the rest."""

from __future__ import annotations

from app.main import create_app
from app.observer.telling import Observers
from app.server import serve
from app.settings import load_settings
from app.telemetry.logging import configure_logging
from app.telemetry.telemetry import Telemetry


class Unobserved(Telemetry):
    """Tells nobody."""

    @property
    def observers(self) -> Observers:
        return Observers()


if __name__ == "__main__":
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    serve(create_app(settings, Unobserved), settings)
