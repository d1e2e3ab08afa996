"""API keys for gatewaykit, and the accounts that own them."""
