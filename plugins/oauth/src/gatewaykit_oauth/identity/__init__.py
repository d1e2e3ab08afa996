"""Signing in through an outside OpenID provider: who it says somebody is, and which account that becomes."""
