"""The real servers that tests talk to, each started once a session on a loopback address or a socket file."""
