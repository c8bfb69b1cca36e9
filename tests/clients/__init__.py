"""Clients that others wrote, unmodified, against the whole service.

Each client here is a few lines around somebody's library, as a user would write them: the README
shows the same lines, and a test holds the two together. A client is a program that gets the address
of a run's events and prints the data of each, one a line, until the service says that all was read.
"""
