"""The authorization server (OAuth 2.1), and the access tokens that the gateway accepts from it."""
