"""What a run is, purely: no I/O, no clock, no asyncio."""
