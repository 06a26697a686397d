"""Calls out of the API server to webhooks: admission, and conversion of custom resources."""
