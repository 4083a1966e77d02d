"""Language models behind one port: the Messages API, and three that need no service (scripted, recorded, loopback)."""
