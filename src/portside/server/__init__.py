"""The API over HTTP: joins api and store."""
