"""How the service meets the network: a strict HTTP protocol, a worker around it,
a supervisor around them.
"""
