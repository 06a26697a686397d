"""Portside: an on-prem container platform whose API is the Kubernetes API."""

__version__ = "0.1.0"
