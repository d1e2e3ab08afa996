"""API keys: how they look, where they are kept, who may make which, and how one is recognised."""
