"""Signing in: passwords, sessions, second factors, setup links, and how fast somebody may guess."""
