"""The services for google-adk: `make adapters` runs the tests that need the package."""
