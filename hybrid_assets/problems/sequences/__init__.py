"""Binary sequences with low autocorrelation."""
