"""The default plugins. They use the public API only, as a third party's would."""
