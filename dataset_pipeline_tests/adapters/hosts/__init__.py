"""Hosts on the loopback interface for tests: servers that speak a host's protocol, and a proxy that breaks it."""
