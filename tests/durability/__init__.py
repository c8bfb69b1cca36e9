"""What is lost when processes, stores and connections die: nothing that was acknowledged.

Real processes, a real Valkey, everything seen from outside over HTTP. How often each is done is in
`amounts.py`: some by default, a tenth of all with `SOAK=tenth`, all with `SOAK=full`.
"""
