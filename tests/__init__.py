"""Mirrors app/: behaviour told in sentences, against real servers on loopback."""
