"""GigaChat provider and local GigaChat sandbox for gatewaykit."""
