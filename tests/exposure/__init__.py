"""The service on a public address: clients that take all they can get, or give nothing.

By default a little of it; `SOAK=full` for the amounts that the figures are about. What is measured
is printed, what must hold is asserted.
"""
