"""The API over real sockets, a real runner and the memory store."""
