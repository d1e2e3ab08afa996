"""OpenAI-compatible provider for gatewaykit."""
